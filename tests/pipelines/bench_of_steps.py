"""Runs the steps of a pipeline one after the other in this process, as the daemon would; for the tests here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from obsarchive.config.model import Calibration, Telescope
from obsarchive.core.archive_paths import Layout
from obsarchive.core.masters import Master
from obsarchive.execution.step_process import TaskResult, execute
from obsarchive.io.fits_products import Provenance, write_fits
from obsarchive.names import ObservationName
from obsarchive.pipeline import Pipeline, Task
from obsarchive.simulation.night import write_raw

OBS = "3_HIP_1_VIC_Si_o_20260314_110427.040912"
NIGHT = "20260314"
TELESCOPE = Telescope.model_validate(
    {
        "primary_m": 2.1,
        "secondary_m": 0.5,
        "plate_scale_arcsec": 0.0347,
        "detector_px": [256, 256],
        "filters": {"Si": {"wavelength_nm": 763, "width_nm": 153}},
    }
)


@dataclass
class Bench:
    """An observation on disk, and what was done to it so far."""

    folder: Path
    name: str = OBS
    telescope: Telescope | None = TELESCOPE
    required: bool = False
    """Whether science without its masters is rejected."""
    document: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    masters: tuple[Master, ...] = ()

    def __post_init__(self) -> None:
        parsed = ObservationName.parse(self.name)
        self.document = {
            "_id": self.name,
            "night": NIGHT,
            "name": parsed.target,
            "camera": parsed.camera,
            "filter": parsed.filter,
            "date_utc": parsed.date_utc,
            "telescope": "KPNO_2.1m",
            "coordinates": {"ra_deg": 155.0, "dec_deg": 20.0},
            "mode": "6",
            "pipelined": {},
        } | self.document

    @property
    def layout(self) -> Layout:
        return Layout(self.folder / "archive")

    def expose(self, frames: Iterable[np.ndarray], n_frames: int, **cards: Any) -> None:
        """Write the raw file."""
        path = self.folder / "raw" / f"{self.name}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_raw(path, iter(frames), n_frames, cards)
        self.files = (path,)

    def calibrate(self, **images: np.ndarray) -> None:
        """Give the night masters: ``dark``, ``flat``."""
        keys = {"dark": "6", "flat": self.document["filter"]}
        for kind, image in images.items():
            master = Master(kind, keys[kind], image.shape, "", "own", NIGHT)
            path = self.layout.calibration(NIGHT) / f"{master.label}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_fits(path, image, {}, Provenance("", "calibration", "", ""))
            self.masters += (master,)

    def product(self, name: str) -> Path:
        """Path of a product, ``pipeline/product``."""
        return self.layout.observation(NIGHT, self.name) / name.format(id=self.name)

    def run(
        self,
        pipeline: type[Pipeline],
        settings: Mapping[str, Any] | None = None,
        only: Iterable[str] = (),
        steps: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, TaskResult]:
        """Run all steps whose turn comes, or some; what was done before is known to them."""
        outcomes: dict[str, TaskResult] = {}
        (self.folder / "tmp").mkdir(exist_ok=True)
        for name, step in pipeline.steps.items():
            if (only and name not in only) or not all(self._is_done(pipeline, before) for before in step.after):
                continue
            task = Task(
                name,
                pipeline,
                name,
                self.document,
                self.folder / "archive",
                self.folder / "tmp",
                settings=settings or {},
                step_settings=steps or {},
                files={"science": self.files} if "science" in step.uses else {},
                masters=self.masters,
                telescope=self.telescope,
                calibration=Calibration(required=self.required),
            )
            outcomes[name] = outcome = execute(task)
            self._note(pipeline, name, outcome)
        return outcomes

    def _is_done(self, pipeline: type[Pipeline], step: str) -> bool:
        steps = self.document["pipelined"].get(pipeline.name, {}).get("steps", {})
        return steps.get(step, {}).get("state") == "done"

    def _note(self, pipeline: type[Pipeline], name: str, outcome: TaskResult) -> None:
        state = {"succeed": "done", "reject": "rejected", "lack": "lacking"}.get(outcome.event, "failed")
        kept = {key: outcome.record[key] for key in ("results", "products") if key in outcome.record}
        block = self.document["pipelined"].setdefault(pipeline.name, {"steps": {}})
        block["steps"][name] = {"state": state, **kept}
