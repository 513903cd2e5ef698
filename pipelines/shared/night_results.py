"""What a step of a whole night says when none of its observations has what it collects."""

from obsarchive.core.step_state import State
from obsarchive.core.values import as_mapping
from obsarchive.errors import ArchiveError, Lacking, Unprocessable
from obsarchive.pipeline import Workspace


def nothing_found(work: Workspace, message: str) -> ArchiveError:
    """Return why a night has no result: it lacks what its observations lack, or else can never have one.

    Parameters
    ----------
    work : Workspace
        The step, which uses the night's observations.
    message : str
        What was not found.

    Returns
    -------
    Lacking or Unprocessable
        To be raised.
    """
    lacks = {
        record.lacks
        for observation in work.observations
        for pipeline in as_mapping(observation.document.get("pipelined"))
        for record in observation.pipeline(pipeline).steps().values()
        if record.state is State.LACKING
    }
    return Lacking(min(lacks), message) if lacks else Unprocessable(message)
