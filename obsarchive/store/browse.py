"""What the portal reads: every query starts from what the asking user may see."""

from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.collection import Collection

from obsarchive.observation import Night, Observation
from obsarchive.store.book import Document

TIME_LIMIT_MS = 5000

_NOT_LISTED = {"fits_header": 0, "raw_data": 0, "coordinates.geojson": 0}
"""Parts of an observation that a list never shows."""


def is_admin(user: Mapping[str, Any]) -> bool:
    """Whether a user may see and do everything."""
    return user.get("programs") == "all"


def programs_of(user: Mapping[str, Any]) -> list[str]:
    """Programmes that an ordinary user belongs to."""
    found = user.get("programs")
    return [str(program) for program in found] if isinstance(found, list) else []


def visible_to(user: Mapping[str, Any]) -> Document:
    """Return the filter of the observations that `user` may see: of a programme of his, or he is (one of) its PI."""
    if is_admin(user):
        return {}
    return {
        "$or": [
            {"science_program.program_id": {"$in": programs_of(user)}},
            {"science_program.program_PI": str(user["_id"])},
        ]
    }


class Browse:
    """Observations and nights as one user sees them."""

    def __init__(self, observations: Collection, nights: Collection) -> None:
        self.observations = observations
        self.nights = nights

    def _first_night(self, user: Mapping[str, Any], order: int, **bound: Any) -> str | None:
        query = {"$and": [visible_to(user), {"night": {"$type": "string", **bound}}]}
        found = self.observations.find(query, {"night": 1}).sort("night", order).limit(1).max_time_ms(TIME_LIMIT_MS)
        return next((document["night"] for document in found), None)

    def last_night(self, user: Mapping[str, Any]) -> str | None:
        """Return the newest night with data that `user` may see."""
        return self._first_night(user, -1)

    def neighbours(self, user: Mapping[str, Any], night: str) -> tuple[str | None, str | None]:
        """Return the nights before and after `night` with data that `user` may see."""
        return self._first_night(user, -1, **{"$lt": night}), self._first_night(user, 1, **{"$gt": night})

    def of_night(self, user: Mapping[str, Any], night: str) -> list[Observation]:
        """Observations of a night that `user` may see, in order of time."""
        query = {"$and": [visible_to(user), {"night": night}]}
        found = self.observations.find(query, _NOT_LISTED).sort("date_utc", 1).max_time_ms(TIME_LIMIT_MS)
        return [Observation(document) for document in found]

    def observation(self, user: Mapping[str, Any], obs_id: str) -> Observation | None:
        """Return the whole document of an observation that `user` may see; None also when it is somebody else's."""
        query = {"$and": [visible_to(user), {"_id": obs_id}]}
        document = self.observations.find_one(query, max_time_ms=TIME_LIMIT_MS)
        return Observation(document) if document else None

    def night(self, user: Mapping[str, Any], night: str) -> Night | None:
        """Return what is known of a night in which `user` has data (administrators: of any night)."""
        query = {"$and": [visible_to(user), {"night": night}]}
        if not is_admin(user) and self.observations.find_one(query, {"_id": 1}, max_time_ms=TIME_LIMIT_MS) is None:
            return None
        document = self.nights.find_one({"_id": night}, {"seeing.frames": 0}, max_time_ms=TIME_LIMIT_MS)
        return Night(document) if document else None

    def visible(self, user: Mapping[str, Any], ids: Iterable[str]) -> set[str]:
        """Return those of some observations that `user` may see."""
        query = {"$and": [visible_to(user), {"_id": {"$in": list(ids)}}]}
        return {document["_id"] for document in self.observations.find(query, {"_id": 1}).max_time_ms(TIME_LIMIT_MS)}

    def nights_of(self, user: Mapping[str, Any], nights: Iterable[str]) -> set[str]:
        """Return those of some nights in which `user` may see data."""
        query = {"$and": [visible_to(user), {"night": {"$in": list(nights)}}]}
        return set(self.observations.distinct("night", query, maxTimeMS=TIME_LIMIT_MS))
