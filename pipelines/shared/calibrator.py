"""Master darks and flats in use: what an observation is calibrated with."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from obsarchive.core.masters import Master
from obsarchive.errors import Lacking, Unprocessable
from obsarchive.io import fits_products
from obsarchive.io.raw_frames import Sections
from obsarchive.io.raw_headers import read_header
from obsarchive.io.reduction_state import reduction_state
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import BoolArray
from obsarchive.science.imaging.calibration import Calibration, central_part
from obsarchive.science.statistics import median_of_all

OVERSCAN = "OVERSCAN"
"""Keyword of a master: whether the overscan was subtracted from its frames."""
SATURATED = 0.97
"""Of the saturation level: a margin, because the dark of a single pixel differs from that of the frame."""
BRIGHTEST_PERCENT = 5.0
"""Share of the pixels that the flat makes darkest: saturated pixels of all others are brighter than the level."""
FULL_SCALE_ADU = 65535
"""At which the loss of the amplifier is configured."""
AROUND_PX = 16
"""Half side of the box around a star in which the flat counts [pixel]."""


@dataclass(frozen=True)
class Calibrator:
    """A calibration for frames of one shape, and the masters it was made from.

    Attributes
    ----------
    calibration : Calibration
        Applied to frames or windows.
    masters : tuple of Master
        Masters in use, for the provenance of products.
    missing : tuple of str
        Kinds of masters that are missing: ``dark``, ``flat``.
    before : dict of str to str
        Kinds that were applied before the frames came here, and the cards that say so.
    n_hot : int
        Hot pixels of the frames that the masters do not know.
    """

    calibration: Calibration
    masters: tuple[Master, ...]
    missing: tuple[str, ...]
    before: Mapping[str, str] = field(default_factory=dict)
    n_hot: int = 0

    def without(self, hot: BoolArray) -> "Calibrator":
        """Return a calibrator that fills hot pixels (ny, nx), too."""
        known = self.calibration.bad
        bad = hot if known is None else hot | known
        n_new = int(bad.sum()) - (0 if known is None else int(known.sum()))
        return replace(self, calibration=replace(self.calibration, bad=bad), n_hot=self.n_hot + n_new)

    @property
    def text(self) -> str:
        """Names of the masters in use and of missing ones, and hot pixels beyond them, for the results of a step."""
        used = [f"{m.label}" + ("" if m.own else f" ({m.origin})") for m in self.masters]
        earlier = [f"{kind} applied before ({card})" for kind, card in self.before.items()]
        hot = [f"{self.n_hot} hot pixel{'s' if self.n_hot > 1 else ''} of the frames"] if self.n_hot else []
        return ", ".join([*used, *(f"no {kind}" for kind in self.missing), *earlier, *hot])

    def saturation(self, level_adu: float | None, place: tuple[float, float] | None = None) -> float:
        """Return the counts above which a calibrated pixel is saturated.

        Parameters
        ----------
        level_adu : float, optional
            Saturation level of raw pixels [ADU]; infinite if it is not known.
        place : (float, float), optional
            Position (y, x) of a star [pixel]: the level is that of the pixels around it; else no pixel of the frame is
            saturated below it, where the flat makes it darkest.

        Returns
        -------
        float
            Level of calibrated pixels [ADU].
        """
        if not level_adu:
            return np.inf
        dark, inverse_flat = self.calibration.dark, self.calibration.inverse_flat
        above_dark = level_adu - (0.0 if dark is None else median_of_all(dark))
        if inverse_flat is None:
            return SATURATED * above_dark
        if place is None:
            return SATURATED * above_dark * min(float(np.percentile(inverse_flat, BRIGHTEST_PERCENT)), 1.0)
        y, x = (max(round(coordinate), 0) for coordinate in place)
        around = inverse_flat[max(y - AROUND_PX, 0) : y + AROUND_PX + 1, max(x - AROUND_PX, 0) : x + AROUND_PX + 1]
        return SATURATED * above_dark * (median_of_all(around) if around.size else 1.0)


def require_same_overscan(header: Mapping[str, Any], sections: Sections, what: str) -> None:
    """Refuse a master dark whose bias level is not that of the frames, because of the overscan of one of them only.

    Parameters
    ----------
    header : mapping
        Header of the master dark.
    sections : Sections
        Of the frames from which it is subtracted.
    what : str
        These frames in words, for the message.

    Raises
    ------
    Unprocessable
        The overscan was subtracted from the one, but not from the other.
    """
    has_overscan = sections.overscan is not None
    if OVERSCAN in header and bool(header[OVERSCAN]) != has_overscan:
        lack, have = ("the master dark", what) if has_overscan else (what, "the master dark")
        raise Unprocessable(
            f"{lack} has no overscan section, but the overscan was subtracted from {have}: "
            "correct the headers, or name the keyword in the setting overscan"
        )


def calibrator(
    work: Workspace, shape: tuple[int, int], sections: Sections | None = None, harmless_adu: float = 0.0
) -> Calibrator:
    """Return the calibration of an observation: its masters, cut to the shape of its frames.

    Parameters
    ----------
    work : Workspace
        Of the step.
    shape : (ny, nx)
        Of the frames; of larger masters the central part is used, as a windowed read-out takes it.
    sections : Sections, optional
        Of the frames: a master dark whose overscan was treated otherwise is refused.
    harmless_adu : float
        Excess of pixels of the master dark up to which they are not filled [ADU].

    Returns
    -------
    Calibrator
        To be applied to each frame.

    Raises
    ------
    Lacking
        A master is missing and the configuration requires calibration.
    Unprocessable
        The master dark does not fit.
    """
    observation = work.observation
    files = work.task.files.get("science", ())
    before = reduction_state(read_header(files[0])) if files else {}
    found = {master.kind: master for master in work.task.masters if master.kind not in before}
    missing = tuple(kind for kind in ("dark", "flat") if kind not in found and kind not in before)
    if missing and work.task.calibration.required:
        wanted = {"dark": f"dark of mode {observation.mode or '?'}", "flat": f"flat in filter {observation.filter}"}
        raise Lacking(
            "calibration",
            f"no master {' and no master '.join(wanted[kind] for kind in missing)} for frames of "
            f"{shape[0]}x{shape[1]}: neither night {observation.night} nor another has one "
            "(add raw files, or set calibration.required to false)",
        )
    folder = work.layout.calibration(observation.night)
    images = {}
    for kind, master in found.items():
        image, header = fits_products.read_fits(folder / f"{master.label}.fits")
        images[kind] = central_part(image, shape)
        if kind == "dark" and sections is not None:
            require_same_overscan(header, sections, "the observation")
    calibration = Calibration.from_masters(images.get("dark"), images.get("flat"), harmless_adu=harmless_adu)
    if work.task.telescope is not None:
        calibration = replace(calibration, loss=work.task.telescope.nonlinearity / FULL_SCALE_ADU)
    return Calibrator(calibration, tuple(found.values()), missing, before)
