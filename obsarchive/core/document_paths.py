"""Dotted paths of nested fields of documents, as MongoDB takes them in queries, updates and projections.

No other module writes such a path. The fields themselves are described in :mod:`obsarchive.core.document_types`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from obsarchive.core.document_types.steps import StepDocument

# -- observations -------------------------------------------------------------------------------------------------

PROGRAM_ID = "science_program.program_id"
PROGRAM_PI = "science_program.program_PI"
RA_DEG = "coordinates.ra_deg"
DEC_DEG = "coordinates.dec_deg"
AZ_DEG = "coordinates.az_deg"
EL_DEG = "coordinates.el_deg"
GEOJSON = "coordinates.geojson"
TARGET_KEYS = "target.keys"
TARGET_PARTS = "target.parts"
TARGET_TEXT = "target.text"
TARGET_FOLDING = "target.folding"
SEEING_NEAREST_ARCSEC = "seeing.nearest_arcsec"
SEEING_NEAREST_ERROR_ARCSEC = "seeing.nearest_error_arcsec"
RAW_DATA = "raw_data.data"
RAW_MISSING = "raw_data.missing"
RAW_CHANGED = "raw_data.last_modified"
PACKED = "distributed.status"
PACKED_BYTES = "distributed.bytes"
PACKED_SHA256 = "distributed.sha256"
PACKED_VERSION = "distributed.version"
PACKING_ASKED = "distributed.last_modified"

# -- observations and nights --------------------------------------------------------------------------------------

EFFECTS_DUE = "effects_due"
EFFECTS_OF_TASK = "effects_due.task"
EFFECTS_OF_PIPELINE = "effects_due.pipeline"
EFFECTS_OF_STATE = "effects_due.state"
RAW_LOCATION = "raw_data.location"
RAW_SIGNATURE = "raw_data.signature"
SEEING_MEDIAN_ARCSEC = "seeing.median_arcsec"
SEEING_MEDIAN_ERROR_ARCSEC = "seeing.median_error_arcsec"

# -- nights -------------------------------------------------------------------------------------------------------

NIGHT_FILES = "raw_data.files"
NIGHT_NEEDS = "raw_data.needs"
NIGHT_IGNORED_COUNT = "raw_data.ignored_count"
NIGHT_PROBLEMS = "raw_data.problems"
NIGHT_PROBLEMS_COUNT = "raw_data.problems_count"
COPIES_CALIBRATION_FROM = "raw_data.copies_calibration_from"
SEEING_FRAMES = "seeing.frames"
SEEING_RESULTS = "seeing.steps.measure.results"
SCIENCE_SIGNATURE = "science.signature"
REDUCTIONS_SIGNATURE = "science.reductions"

CLASSIFIED_AS = re.compile(r"pipelined\.\w+\.classified_as")
"""Paths of the verdicts of pipelines on an observation."""

StatusField = Literal["done", "enqueued", "force_redo", "retries"]
StepField = Literal[
    "state",
    "retries",
    "waits",
    "losses",
    "message",
    "lacks",
    "not_before",
    "redo",
    "task",
    "run",
    "claimed",
    "started",
    "finished",
    "version",
    "inputs",
    "products",
    "amended",
    "results",
]


@dataclass(frozen=True)
class PipelinePaths:
    """Paths into the block of one pipeline.

    Parameters
    ----------
    block : str
        Path of the block itself.
    """

    block: str

    @classmethod
    def of_observation(cls, pipeline: str) -> "PipelinePaths":
        """Return the paths of a pipeline in the document of an observation."""
        return cls(f"pipelined.{pipeline}")

    @classmethod
    def of_night(cls, pipeline: str) -> "PipelinePaths":
        """Return the paths of a pipeline in the document of a night."""
        return cls(pipeline)

    @property
    def steps(self) -> str:
        """Path of the records of all steps."""
        return f"{self.block}.steps"

    @property
    def last_modified(self) -> str:
        """Path of the time of the last change."""
        return f"{self.block}.last_modified"

    @property
    def classified_as(self) -> str:
        """Path of the verdict on the data."""
        return f"{self.block}.classified_as"

    def status(self, field: StatusField) -> str:
        """Return the path of a field of the summary for users."""
        return f"{self.block}.status.{field}"

    def step(self, name: str, field: StepField) -> str:
        """Return the path of a field of a step.

        Parameters
        ----------
        name : str
            Name of the step.
        field : str
            Name of the field.

        Returns
        -------
        str
        """
        return f"{self.steps}.{name}.{field}"

    def step_fields(self, name: str, fields: StepDocument) -> dict[str, Any]:
        """Return fields of a step by their paths in the document, to be set one by one.

        Parameters
        ----------
        name : str
            Name of the step.
        fields : StepDocument
            Values by the names of the fields.

        Returns
        -------
        dict
            Values by their dotted paths.
        """
        return {f"{self.steps}.{name}.{key}": value for key, value in fields.items()}

    def result(self, name: str, key: str) -> str:
        """Return the path of a value that a step measured.

        Parameters
        ----------
        name : str
            Name of the step.
        key : str
            Name of the value in the results of the step.

        Returns
        -------
        str
        """
        return f"{self.step(name, 'results')}.{key}"


def step_path(pipeline: str, step: str, field: StepField) -> str:
    """Return the path of a field of a step in the document of an observation.

    Parameters
    ----------
    pipeline, step : str
        Names of the pipeline and of its step.
    field : str
        Name of the field.

    Returns
    -------
    str
    """
    return PipelinePaths.of_observation(pipeline).step(step, field)


def result_path(pipeline: str, step: str, key: str) -> str:
    """Return the path of a measured value in the document of an observation.

    Parameters
    ----------
    pipeline, step : str
        Names of the pipeline and of its step.
    key : str
        Name of the value in the results of the step.

    Returns
    -------
    str
    """
    return PipelinePaths.of_observation(pipeline).result(step, key)


def night_signature(kind: str) -> str:
    """Return the path of the signature of a night's raw files of a kind."""
    return f"{RAW_SIGNATURE}.{kind}"


def field_paths(block: Literal["raw_data", "seeing"], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a block by their paths in the document, to be set one by one.

    Parameters
    ----------
    block : str
        Name of the block.
    fields : mapping
        Values by their names within the block.

    Returns
    -------
    dict
        Values by their dotted paths.
    """
    return {f"{block}.{key}": value for key, value in fields.items()}


def element_fields(array: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of the element of a list that the query found, by their paths in the document.

    Parameters
    ----------
    array : str
        Path of the list.
    fields : mapping
        Values by their names within the element.

    Returns
    -------
    dict
        Values by their dotted paths.
    """
    return {f"{array}.$.{key}": value for key, value in fields.items()}
