"""Documents of a collection that changed, as the database itself tells them."""

from contextlib import suppress

from pymongo.change_stream import CollectionChangeStream
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from obsarchive.store.step_records import Document

_NAMES = [{"$project": {"documentKey": 1, "operationType": 1}}]


class Changes:
    """The changes of a collection, where the database can be followed: a replica set that allows it.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection
        self._stream: CollectionChangeStream[Document] | None = None

    def names(self) -> set[str] | None:
        """Return the documents that changed since the last call; None where that is not known, as for the first."""
        try:
            if self._stream is not None:
                return self._read(self._stream)
            # what changes from now on is in the stream, whenever the caller reads the documents
            self._stream = self.collection.watch(_NAMES, max_await_time_ms=1)
        except OperationFailure:  # it cannot be followed, or has gone too far to take up where we were
            self.forget()
        except PyMongoError:
            self.forget()
            raise
        return None

    def forget(self) -> None:
        """Have the next call not know what changed."""
        stream, self._stream = self._stream, None
        with suppress(PyMongoError):
            if stream is not None:
                stream.close()

    def _read(self, stream: CollectionChangeStream[Document]) -> set[str] | None:
        found: set[str] = set()
        while (change := stream.try_next()) is not None:
            if "documentKey" not in change:  # the collection was dropped
                self.forget()
                return None
            found.add(change["documentKey"]["_id"])
        if not stream.alive:
            self.forget()
            return None
        return found
