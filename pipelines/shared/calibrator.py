"""Master darks and flats in use: what an observation is calibrated with."""

from dataclasses import dataclass

import numpy as np

from obsarchive.core.documents import Master
from obsarchive.errors import Unprocessable
from obsarchive.io import fits_products
from obsarchive.pipeline import Workspace
from obsarchive.science.imaging.calibration import Calibration, central_part

SATURATED = 0.97
"""Of the saturation level: a margin, because the dark of a single pixel differs from that of the frame."""


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
    """

    calibration: Calibration
    masters: tuple[Master, ...]
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """Names of the masters in use and of missing ones, for the results of a step."""
        used = [f"{m.label}" + ("" if m.own else f" ({m.origin})") for m in self.masters]
        return ", ".join([*used, *(f"no {kind}" for kind in self.missing)])

    def saturation(self, level_adu: float | None) -> float:
        """Return the counts above which a calibrated pixel is saturated; `level_adu` is that of raw pixels [ADU]."""
        dark = self.calibration.dark
        return SATURATED * ((level_adu or np.inf) - (0.0 if dark is None else float(np.median(dark))))


def calibrator(work: Workspace, shape: tuple[int, int]) -> Calibrator:
    """Return the calibration of an observation: its masters, cut to the shape of its frames.

    Parameters
    ----------
    work : Workspace
        Of the step.
    shape : (ny, nx)
        Of the frames; of larger masters the central part is used, as a windowed read-out takes it.

    Returns
    -------
    Calibrator
        To be applied to each frame.

    Raises
    ------
    Unprocessable
        A master is missing and the configuration requires calibration.
    """
    observation = work.observation
    found = {master.kind: master for master in work.task.masters}
    missing = tuple(kind for kind in ("dark", "flat") if kind not in found)
    if missing and work.task.calibration.required:
        wanted = {"dark": f"dark of mode {observation.mode or '?'}", "flat": f"flat in filter {observation.filter}"}
        raise Unprocessable(
            f"no master {' and no master '.join(wanted[kind] for kind in missing)} for frames of "
            f"{shape[0]}x{shape[1]}: neither night {observation.night} nor another has one "
            "(add raw files, or set calibration.required to false)"
        )
    folder = work.layout.calibration(observation.night)
    images = {
        kind: central_part(fits_products.read_fits(folder / f"{master.label}.fits")[0], shape)
        for kind, master in found.items()
    }
    calibration = Calibration.from_masters(images.get("dark"), images.get("flat"))
    return Calibrator(calibration, tuple(found.values()), missing)
