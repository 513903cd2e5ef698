"""Master darks and flats in use: what an observation is calibrated with."""

from dataclasses import dataclass

import numpy as np

from obsarchive.core.documents import Master
from obsarchive.errors import Unprocessable
from obsarchive.io import fits_products
from obsarchive.pipeline import Workspace
from obsarchive.science.imaging.calibration import Calibration, central_part

SATURATED = 0.97
"""Of the saturation level: the dark of a single pixel is not that of the frame."""


@dataclass(frozen=True)
class Calibrator:
    """A calibration ready for frames of one shape, and the masters it was made from."""

    calibration: Calibration
    masters: tuple[Master, ...]
    missing: tuple[str, ...]

    @property
    def text(self) -> str:
        """Say in words what was used."""
        used = [f"{m.label}" + ("" if m.own else f" ({m.origin})") for m in self.masters]
        return ", ".join([*used, *(f"no {kind}" for kind in self.missing)])

    def saturation(self, level_adu: float | None) -> float:
        """Counts above which a calibrated pixel is taken for saturated; `level_adu` is that of raw pixels."""
        dark = self.calibration.dark
        return SATURATED * ((level_adu or np.inf) - (0.0 if dark is None else float(np.median(dark))))


def calibrator(work: Workspace, shape: tuple[int, int]) -> Calibrator:
    """Load the masters that fit an observation, cut to the shape of its frames.

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
