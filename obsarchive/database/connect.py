"""Opening of the database, embedded or external."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from obsarchive.config.model import Config, Database
from obsarchive.database.embedded_mongod import EmbeddedMongod
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import Store


@dataclass(frozen=True)
class DatabaseHandle:
    """An open database, and the function that starts it again after a failure."""

    store: Store
    uri: str = field(repr=False)
    revive: Callable[[], object]


@contextmanager
def open_database(config: Config, answer_s: float | None = None) -> Iterator[DatabaseHandle]:
    """Open the database of an archive; an embedded one is started, or joined if it runs already.

    Parameters
    ----------
    config : Config
        The archive's configuration.
    answer_s : float, optional
        Longest time that one operation may take [s]; by default there is no limit.

    Yields
    ------
    DatabaseHandle

    Raises
    ------
    ServiceUnavailable
        When it can be neither started nor reached.
    """
    if config.database.mode == "external":
        uri = external_uri(config.database)
        store = Store(uri, config.database.db, answer_s=answer_s)
        try:
            yield DatabaseHandle(store, uri, lambda: None)
        finally:
            store.close()
        return
    try:
        config.database_folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ServiceUnavailable(f"{config.database_folder}: cannot be made: {err.strerror}") from err
    mongod = EmbeddedMongod(config.database_folder, binary=config.database.mongod, database=config.database.db)
    with mongod as server:
        store = Store(server.uri, config.database.db, answer_s=answer_s)
        try:
            yield DatabaseHandle(store, server.uri, mongod.ensure)
        finally:
            store.close()


@contextmanager
def open_store(config: Config) -> Iterator[Store]:
    """Open the database for a program that does not supervise it: the portal, a command.

    Yields
    ------
    Store
    """
    with open_database(config) as opened:
        yield opened.store


def external_uri(database: Database) -> str:
    """Return the address of an external database with its credentials and write guarantees."""
    scheme, _, rest = str(database.uri).partition("://")
    if database.user:
        password = database.password.get_secret_value() if database.password else ""
        rest = f"{quote_plus(database.user)}:{quote_plus(password)}@{rest}"
    options = "w=majority&journal=true&retryWrites=true"
    if database.replicaset:
        options += f"&replicaSet={quote_plus(database.replicaset)}"
    if "?" in rest:
        return f"{scheme}://{rest}&{options}"
    return f"{scheme}://{rest}{'' if '/' in rest else '/'}?{options}"
