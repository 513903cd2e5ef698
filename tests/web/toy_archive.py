"""A small archive with documents and product files, for the tests of the portal and for looking at it."""

import hashlib
import io
import json
import random
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from obsarchive.config.model import Config
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import utc_now
from obsarchive.core.package_texts import PACKAGE_VERSION
from obsarchive.instruments.base import coordinates
from obsarchive.io.fits_products import Provenance, tan_wcs, write_fits
from obsarchive.store import Store
from surveys.demo import VirtualDemoObs
from surveys.finder import Finder
from surveys.observatory import Fetched, Row, VirtualObservatory
from surveys.properties import Properties
from surveys.quality import QualityChecker
from surveys.source import Source

NIGHT, EARLIER = "20160925", "20160923"
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}"
FACES = 12
"""Different pictures that are made."""


@cache
def star_picture(seed: int, pixels: int) -> bytes:
    """Return a PNG of a star with speckles, sometimes with a companion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:pixels, :pixels] / pixels - 0.5
    radius = np.hypot(y, x)
    image = 1.0 * np.exp(-((radius / 0.02) ** 2)) + 0.08 * np.exp(-((radius / 0.11) ** 2))
    image += 0.12 * np.exp(-(((radius - 0.06) / 0.012) ** 2))
    for _ in range(40):
        dy, dx = rng.normal(0, 0.09, 2)
        image += rng.uniform(0.002, 0.02) * np.exp(-(((y - dy) ** 2 + (x - dx) ** 2) / 0.0002))
    if seed % 3 == 0:
        image += 0.3 * np.exp(-(((y - 0.2) ** 2 + (x + 0.15) ** 2) / 0.0004))
    image += rng.normal(0, 0.002, image.shape)
    grey = np.arcsinh(np.clip(image, 0, None) * 60) / np.arcsinh(60)
    buffer = io.BytesIO()
    Image.fromarray((np.clip(grey, 0, 1) * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def make_config(folder: Path, *more_pipelines: str, **server: Any) -> Config:
    pipelines = [
        {"class": "toy_pipelines.BrightStar"},
        {"class": "toy_pipelines.FaintStar", "when": "pipelined.bright_star.classified_as in ['faint', 'zero_flux']"},
        {"class": "toy_pipelines.Calibration"},
        {"class": "toy_pipelines.PsfLibrary"},
        {"class": "toy_pipelines.Seeing"},
        *({"class": f"toy_pipelines.{name}"} for name in more_pipelines),
    ]
    places = {name: str(folder / name) for name in ("archive", "tmp", "logs")}
    raw = {
        "server": {"name": "Robo-AO archive", **server},
        "paths": {"raw": [str(folder / "raw")], **places},
        "pipelines": pipelines,
    }
    return Config.model_validate(raw, context={"folder": folder})


class ZTF(VirtualDemoObs):
    """Made-up photometry in two filters."""

    name = "ZTF"

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        data, altdata = super().fetch_data_from_observatory(cat_row, **kwargs)
        return {**data, "filter": np.where(np.arange(len(data["mjd"])) % 2, "g", "r")}, altdata


class ToyArchive:
    """Fills a database and an archive tree."""

    def __init__(self, store: Store, config: Config) -> None:
        self.store, self.layout = store, Layout(config.paths.archive)
        self.raw = config.paths.raw[0].path

    def observation(self, program: str, target: str, minute: int, **more: Any) -> str:
        """Add one observation without any product; returns its name."""
        night = more.pop("night", NIGHT)
        when = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=3, minutes=minute)
        band = more.pop("filter", "lp600")
        name = f"{program}_{target}_VIC_{band}_o_{when:%Y%m%d_%H%M%S.%f}"
        document = {
            "_id": name,
            "schema": 1,
            "night": night,
            "name": target,
            "science_program": {"program_id": program, "program_PI": more.pop("pi", ["nobody"])},
            "date_utc": when,
            "telescope": "KPNO_2.1m",
            "camera": "VIC",
            "filter": band,
            "marker": "o",
            "exposure_s": 90.0,
            "magnitude": 11.23,
            "coordinates": coordinates(155.1271, -0.0042, {"AZIMUTH": 181.2, "ELVATION": 57.9}),
            "seeing": {"median_arcsec": 1.31, "nearest_arcsec": 1.22},
            "fits_header": [
                {"key": "OBJECT", "value": target, "comment": "target"},
                {"key": "EXPOSURE", "value": 0.116, "comment": "[s] of a frame"},
            ],
            "raw_data": {"location": ["host", "/raw"], "data": [f"{name}.fits.bz2", f"{name}_0.fits.bz2"]},
            "pipelined": {},
            "distributed": {"status": False},
        }
        self.store.observations.insert({**document, **more})
        return name

    def raw_file(self, obs_id: str, name: str, data: bytes) -> Path:
        """Put a raw file of an observation where its document says."""
        folder = self.raw / (self.store.observations.find(obs_id) or {})["night"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        self.store.observations.set_fields(obs_id, {"raw_data.location": ["host", str(folder)]})
        return folder / name

    def product(self, folder: Path, name: str, data: bytes) -> dict[str, Any]:
        """Write a product and return its record."""
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def step(self, obs_id: str, pipeline: str, step: str, **record: Any) -> None:
        """Set the record of one step."""
        self.store.observations.set_fields(obs_id, {f"pipelined.{pipeline}.steps.{step}": record})

    def reduced(self, obs_id: str, seed: int = 0, strehl: float = 12.3) -> None:
        """Let the bright-star pipeline have done an observation."""
        night = (self.store.observations.find(obs_id) or {})["night"]
        folder = self.layout.observation(night, obs_id) / "bright_star"
        pictures = {"thumb": 160, "cropped": 320, "full": 640, "quality": 320}
        previews = [
            self.product(folder, f"preview/{obs_id}_{kind}.png", star_picture(seed % FACES, pixels))
            for kind, pixels in pictures.items()
        ]
        stacks = [
            self.product(folder, "100p.fits", b"SIMPLE  =                    T"),
            self.product(folder, "frames.txt", b"1 2 3\n"),
        ]
        inputs = {"science": "5f0c1d2e3f4a5b6c", "calibration": "dark_6:aa11 flat_lp600:bb22"}
        done = {"state": "done", "finished": utc_now(), "inputs": inputs, "version": "0.1"}
        self.step(
            obs_id,
            "bright_star",
            "reduce",
            products=stacks,
            results={
                "frames_total": 770,
                "frames_used": 768,
                "guide_star": {"y": 512.3, "x": 498.1, "snr": 41.2},
                "calibration": "dark_6 and flat_lp600 of the night",
                "left_out": [{"frame": 17, "reason": "black"}, {"frame": 402, "reason": "saturated"}],
            },
            **done,
        )
        text = self.product(folder, f"strehl/{obs_id}_strehl.txt", b"Strehl ratio\n")
        flag = "OK" if strehl > 5 else "BAD?"
        self.step(
            obs_id,
            "bright_star",
            "strehl",
            products=[text],
            results={"ratio_percent": strehl, "ratio_error_percent": 0.4, "fwhm_arcsec": 0.121, "flag": flag},
            **done,
        )
        self.step(obs_id, "bright_star", "preview", products=previews, results={}, **done)
        separations = [0.2, 0.5, 1.0, 1.5]
        curve = [[x, round(2.0 + 3 * x + seed % 3 / 5, 2), 0.7] for x in separations]
        self.step(obs_id, "bright_star", "pca", products=[], results={"curve": curve}, **done)
        manifest = {
            "settings": {"pixfrac": 0.45, "scale": 2},
            "log": ["2016-09-26T00:00:00Z INFO guide star found"],
            "version": "0.1",
            "config": "0123456789abcdef",
        }
        (folder / ".reduce.json").write_text(json.dumps(manifest))
        self.product(self.layout.observation(night, obs_id), f"{obs_id}.tar.bz2", b"BZh9")
        self.store.observations.set_fields(obs_id, {"distributed.status": True, "distributed.version": PACKAGE_VERSION})

    def calibration(self, night: str, observations: list[str]) -> None:
        """Let the night have masters, and pictures of a PSF library."""
        self.store.nights.touch(night)
        preview = self.product(self.layout.calibration(night), "preview/dark_6.png", star_picture(1, 160))
        masters = [
            {"kind": "dark", "key": "6", "shape": [1024, 1024], "origin": "own", "noise_adu": 1.234, "frames": 1000},
            {"kind": "flat", "key": "lp600", "shape": [1024, 1024], "origin": "copied from 20160920", "frames": 500},
        ]
        results = {
            "masters": masters,
            "excluded": [{"file": "dark_6_20160925_010203.000000.fits", "reason": "truncated"}],
        }
        library = [
            self.product(self.layout.summary(night), f"psflib/{name}.png", star_picture(2, 160))
            for name in observations
        ]
        self.store.nights.set_fields(
            night,
            {
                "calib.steps.darks": {
                    "state": "done",
                    "results": results,
                    "products": [preview],
                    "finished": utc_now(),
                },
                "psflib.steps.candidates": {"state": "done", "products": library, "finished": utc_now()},
                "psf_lib": [{"observation": name, "filter": "lp600", "state": "in library"} for name in observations],
                "raw_data.ignored_count": 3,
            },
        )

    def seeing(self, night: str, count: int) -> list[str]:
        """Let the night have seeing frames; returns the names of their pictures."""
        names, frames, products = [], [], []
        for number in range(count):
            when = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=3, minutes=20 * number)
            names.append(f"seeing/{when:%Y%m%d_%H%M%S}.png")
            products.append(self.product(self.layout.summary(night), names[-1], star_picture(number, 160)))
            frames.append(
                {
                    "file": f"seeing_{number}",
                    "date_utc": when.isoformat(),
                    "filter": "Si",
                    "fwhm_arcsec": 1.1 + 0.1 * number,
                    "fwhm_error_arcsec": 0.04,
                }
            )
        step = {"state": "done", "results": {"frames": frames}, "products": products, "finished": utc_now()}
        self.store.nights.set_fields(night, {"seeing.steps.measure": step, "seeing.median_arcsec": 1.25})
        return names

    def real_image(self, obs_id: str, north_deg: float = 0.0, east_left: bool = True) -> Path:
        """Put a FITS image that can be shown where a product stands for one, and return its path."""
        y, x = np.mgrid[:120, :120] - 59.5
        image = (1000 * np.exp(-(y**2 + x**2) / 50)).astype(np.float32)
        header = {"GUIDEY": 60, **tan_wcs(155.1271, -0.0042, (59.5, 59.5), 0.0174, north_deg, east_left)}
        night = (self.store.observations.find(obs_id) or {})["night"]
        path = self.layout.observation(night, obs_id) / "bright_star" / "100p.fits"
        write_fits(path, image, header, Provenance("1", "bright_star", "reduce", "0" * 16))
        return path

    @staticmethod
    def now() -> datetime:
        """Now, as the database keeps it."""
        return utc_now()

    def busy_night(self, count: int) -> None:
        """Fill a night as an observer would find it in the morning."""
        rng = random.Random(7)
        names, bands = (
            ["351_Yrsa", "HD_140283", "GJ_436", "EPIC_201912552", "KOI-2626", "WDS_J1023+3421"],
            ["lp600", "Si", "Sz"],
        )
        for index in range(count):
            program, band = ("3" if index % 3 else "4"), rng.choice(bands)
            obs = self.observation(
                program, f"{rng.choice(names)}.{index}" if index > 5 else names[index], 2 * index, filter=band
            )
            if index % 17 == 11:
                reason = "no star brighter than 5 sigma in any of 770 frames"
                self.step(obs, "bright_star", "reduce", state="rejected", message=reason, finished=utc_now())
                self.store.observations.set_fields(obs, {"pipelined.bright_star.classified_as": "faint"})
            elif index % 19 == 13:
                message = f"OSError: {obs}.fits.bz2: ends after 412 of 770 frames"
                self.step(obs, "bright_star", "reduce", state="failed", message=message, retries=2, finished=utc_now())
            elif index >= count - 3:
                self.step(obs, "bright_star", "reduce", state="enqueued")
                begun = {"started": utc_now(), "fraction": 0.41, "text": "registering frames", "worker": "w1"}
                self.job(obs, "enqueued", **(begun if index == count - 3 else {}))
            else:
                self.reduced(obs, index, round(rng.uniform(2, 38), 1))

    def job(self, subject: str, state: str, **more: Any) -> None:
        """Note an attempt at a step."""
        job = {
            "_id": f"{subject}-{state}-{random.random()}",
            "subject": subject,
            "pipeline": "bright_star",
            "step": "reduce",
        }
        self.store.jobs.start({**job, "run": "r1"})
        self.store.jobs.update(job["_id"], {"state": state, **more})

    def dataset(self, program: str, target: str, filter_name: str = "ip", n_frames: int = 12) -> str:
        """Add a reduced dataset with a few stars; returns its key."""
        folder = self.layout.root.parent / "datasets" / target / "sinistro" / filter_name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(n_frames)
        names = ("star_id", "ra", "dec", "time_bjd_tdb", "flux", "flux_err", "mag", "mag_err", "fwhm", "flags")
        table = np.zeros(3 * n_frames, [*((name, "f8") for name in names), ("frame", "S20")])
        table["star_id"] = np.repeat([0, 1, 2], n_frames)
        table["ra"], table["dec"] = 268.5 + 0.001 * table["star_id"], -29.5
        table["time_bjd_tdb"] = np.tile(2460500.0 + 2 * np.arange(n_frames), 3)
        u2 = 0.09 + (np.tile(np.arange(n_frames) - n_frames / 2, 3) / 3) ** 2
        magnified = np.where(table["star_id"] == 0, 2.5 * np.log10((u2 + 2) / np.sqrt(u2 * (u2 + 4))), 0)
        table["mag"] = 17.0 + table["star_id"] - magnified + rng.normal(0, 0.01, len(table))
        table["mag_err"], table["flux"] = 0.01, 10 ** (-0.4 * (table["mag"] - 24))
        table["flux_err"] = 0.01 * table["flux"]
        table["frame"] = [f"frame-{i:02d}.fits".encode() for i in range(n_frames)] * 3
        with h5py.File(folder / "photometry.h5", "w") as file:
            file["photometry"] = table
        (folder / "reduction.json").write_text(json.dumps({"n_measured": n_frames}))
        (folder / "frames.ecsv").write_text(
            "# %ECSV 1.0\n# ---\nframe state reason time_mjd_utc fwhm offset limit n_matched wcs_rms\n"
            'frame-00.fits good "" 60500.0 1.5 0.01 20.4 120 0.05\n'
            'frame-01.fits failed "no plate solution" nan nan nan nan nan nan\n'
        )
        (folder / "aperture_pipeline.log").write_text("2024-07-01T00:00:00Z INFO done\n")
        for name in ("lightcurve.png", "rms.png"):
            (folder / name).write_bytes(star_picture(1, 200))
        (folder / f"{target}_{filter_name}_lc.csv").write_text("time,filter,magnitude,error\n")
        facts = {"n_measured": n_frames, "n_failed": 1, "n_bad": 0, "n_stars": 3, "filter": filter_name}
        zero_point = {"zero_point": 23.7, "zero_point_stars": 40, "zero_point_scatter": 0.02, "catalogue": "Gaia DR3"}
        self.store.datasets.note(folder, {**facts, **zero_point, "state": "done", "proposals": [program]})
        return self.store.datasets.key(folder)

    def project(self, run: str, programs: list[str], **more: Any) -> None:
        """Add a project of surveys."""
        facts = {"name": run, "programs": programs, "observatories": ["DEMO"], "state": "done", "progress": 1.0}
        self.store.surveys.ensure_indexes()
        self.store.surveys.note_run(run, {**facts, **more})

    def source(self, run: str, row: dict[str, Any], obs: VirtualObservatory | None = None, **more: Any) -> str:
        """Fetch, reduce, search and keep a source of a project as a run does; returns its name."""
        surveys, name = self.store.surveys, str(row["name"])
        obs = obs or VirtualDemoObs(event_fraction=1.0)
        obs.output_folder = run
        surveys.register([Source.from_row(row).document()], run)
        raw = obs.download(row)
        raw.save()
        surveys.save_raw([raw.document(utc_now() + timedelta(days=90))])
        finder, checker = Finder(), QualityChecker()
        curves = [finder.process(checker.check(curve)) for curve in obs.reduce(raw)]
        for curve in curves:
            curve.save()
        surveys.save("lightcurves", [curve.document() for curve in curves])
        detections = [found for curve in curves for found in finder.detect(curve)]
        surveys.save("detections", [found.document() for found in detections])
        found = Properties(name, run, has_data=bool(curves), n_detections=len(detections), **more)
        surveys.save("properties", [found.document()])
        return name

    def surveys(self) -> dict[str, str]:
        """Add a project of everybody, and one of each of two programmes; returns sources by what they are."""
        self.project("WHITE_DWARFS", [], description="white dwarfs within 100 pc")
        self.project("OURS", ["3"], state="running", progress=0.4, text="2 of 5 sources", n_sources=5)
        self.project("THEIRS", ["4"])
        quiet, empty = VirtualDemoObs(event_fraction=0.0), VirtualDemoObs(event_fraction=0.0, empty_fraction=1.0)
        dwarfs = {
            "event": {"name": "WDJ0000+2000", "ra": 0.0001, "dec": 20.0, "mag": 16.0, "aliases": ["Gaia EDR3 77"]},
            "quiet": {"name": "WDJ2359+2000", "ra": 359.996, "dec": 20.001, "mag": 18.0},
            "polar": {"name": "WDJ1234+9000", "ra": 188.5, "dec": 89.9999, "mag": 17.0},
            "empty": {"name": "WDJ0600-3000", "ra": 90.0, "dec": -30.0, "mag": 19.0},
        }
        features = {"DEMO R": {"n": 100.0, "median_mag": 16.0, "slope_mag_per_d": 0.001, "stetson_j": 0.4}}
        period = {"period_d": 3.25, "power": 0.8, "epoch_mjd": 58001.5, "amplitude_mag": 0.1, "method": "lomb-scargle"}
        injection = {"number": 1, "shape": "box", "mjd": 58050.0, "duration": 2.0, "amplitude": 0.5}
        injected = {**injection, "expected_snr": 21.5, "observatory": "DEMO", "filter": "R", "recovered": True}
        self.source(
            "WHITE_DWARFS", dwarfs["event"], features=features, extra={"period": period, "injections": [injected]}
        )
        self.source("WHITE_DWARFS", {**dwarfs["quiet"], "cat_row": {"pm": 12.5, "note": HOSTILE}}, quiet)
        self.source("WHITE_DWARFS", dwarfs["polar"], quiet)
        self.source("WHITE_DWARFS", dwarfs["empty"], empty)
        self.source("OURS", {"name": "ANA 1", "ra": 120.0, "dec": 5.0, "mag": 17.0})
        self.source("THEIRS", {"name": "BEN 1", "ra": 121.0, "dec": 5.0, "mag": 17.0})
        names = {what: str(row["name"]) for what, row in dwarfs.items()}
        return {**names, "failed": self._failed_source(), "ana": "ANA 1", "ben": "BEN 1"}

    def _failed_source(self) -> str:
        name = "WDJ1200+0000"
        surveys = self.store.surveys
        surveys.register([Source(name, 180.0, 0.0, 15.0).document()], "WHITE_DWARFS")
        raw = {"_id": f"DEMO/{name}", "observatory": "DEMO", "source_name": name, "state": "failed", "checksum": None}
        surveys.save_raw([{**raw, "reason": f"DEMO answered 500 {HOSTILE}", "fetched": utc_now()}])
        failed = Properties(name, "WHITE_DWARFS", state="failed", reason="raw photometry needs a time")
        surveys.save("properties", [failed.document()])
        return name
