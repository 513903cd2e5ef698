"""Blocks of pipelines and their steps: the same in documents of observations and of nights."""

from datetime import datetime
from typing import Any, NotRequired

from typing_extensions import TypedDict


class ImageEntry(TypedDict):
    """The image of a FITS file, as its header describes it."""

    shape: list[int]
    """Pixels along each axis, in the order of numpy: of an image (ny, nx)."""
    corners_deg: NotRequired[list[list[float]]]
    """Right ascension and declination of the outer corners of its corner pixels [deg]; absent without a WCS."""
    pixel_arcsec: NotRequired[float]
    """Side of a pixel [arcsec]."""


class ProductEntry(TypedDict):
    """A file that a step wrote."""

    name: str
    """Path within the folder of the pipeline."""
    bytes: int
    """Size [bytes]."""
    sha256: str
    """Checksum, 64 hex digits."""
    content: NotRequired[str]
    """Checksum of what its step made, 16 hex digits: without the cards of one run, and without those that other
    pipelines set later; absent if an earlier version wrote it."""
    cards_of: NotRequired[list[str]]
    """Pipelines that set cards in its header since."""
    image: NotRequired[ImageEntry]
    """Of a FITS file with an image; absent if an earlier version wrote it."""


class AmendedProduct(ProductEntry):
    """A product of another pipeline in whose header a step set cards, as it left it."""

    pipeline: str
    """The pipeline that made it."""
    step: str
    """Its step."""


class StepDocument(TypedDict, total=False):
    """One step of a pipeline; absent until it is claimed for the first time."""

    state: str
    """A `State`: ``waiting``, ``enqueued``, ``done``, ``failed``, ``rejected`` or ``lacking``."""
    retries: int
    waits: int
    losses: int
    """Failures since the step last ended otherwise."""
    message: str
    """Why it failed, was rejected or lacks something; empty otherwise."""
    lacks: str
    """What a lacking step waits for, such as ``references``; empty otherwise."""
    not_before: datetime | None
    """A failed or released step is not tried again before this time."""
    redo: bool
    """A user asked that this step be done again."""
    task: str
    """Identifier of the task that holds the claim; only while the step is enqueued, as the next two."""
    run: str
    """Identifier of the run of the daemon that made the claim."""
    claimed: datetime
    """When it was claimed."""
    started: datetime
    """When the worker began; absent if the worker left no manifest."""
    finished: datetime
    """When the step ended."""
    version: str
    """Version of the software that did it."""
    inputs: dict[str, str]
    """Signature of everything that the step was made from, by the kind of input."""
    products: list[ProductEntry]
    """Files that it wrote."""
    amended: list[AmendedProduct]
    """Products of other pipelines in which it set cards, as it left them."""
    results: dict[str, Any]
    """What it measured, defined by the step; units are in the names (``fwhm_arcsec``, ``ratio_percent``)."""


class PipelineStatus(TypedDict, total=False):
    """Summary of a pipeline for users, and the field by which they ask for a redo."""

    done: bool
    """Whether all steps are done, but for those that lack what does not exist yet."""
    enqueued: bool
    """Whether one of the steps is claimed."""
    force_redo: bool
    """Set by a user: all steps wait again."""
    retries: int
    """Failures since a step last ended otherwise."""


class PipelineDocument(TypedDict, total=False):
    """One pipeline of an observation or night: the block ``pipelined.<pipeline>`` or, of a night, ``<pipeline>``."""

    status: PipelineStatus
    last_modified: datetime
    classified_as: str
    """Verdict on the data: ``zero_flux``, ``faint``, ``high_flux``, ``failed``."""
    steps: dict[str, StepDocument]
    """By the name of the step."""


class EffectsDue(TypedDict):
    """A result whose effects on other documents are not complete."""

    task: str
    pipeline: str
    step: str
    state: str
