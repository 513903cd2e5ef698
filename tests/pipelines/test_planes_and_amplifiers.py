"""A night of a CCD of four amplifiers, and of frames that another pipeline reduced, through the daemon."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.database.embedded_mongod import Server
from obsarchive.science.photometry.source_detection import detect
from tests.forked import DAEMON, Forked
from tests.services import running_services, with_services

PROJECT = Path(__file__).resolve().parents[2]
NIGHT, SIDE, N_STARS, SKY = "20260314", 300, 40, 200.0
HALF = SIDE // 2
LEVELS = (1000, 1200, 900, 1100)
"""Of the amplifiers [ADU]; it is their overscan that says so."""


def configuration(folder: Path) -> dict[str, Any]:
    raw = {
        "path": str(folder / "raw"),
        "instrument": "obsarchive.instruments.HeaderDriven",
        "settings": {"camera": "CAM"},
    }
    return {
        "server": {"port": 0},
        "paths": {"raw": [raw], **{name: str(folder / name) for name in ("archive", "tmp", "logs")}},
        "parallel": {"n_workers": 1, "memory_limit_gb": 1.5},
        "daemon": {"loop_interval_s": 0.2, "settle_time_s": 0.0, "max_retries": 0, "min_free_gb": 0},
        "telescope": {
            "T": {
                "cameras": ["CAM"],
                "primary_m": 0.4,
                "secondary_m": 0.1,
                "plate_scale_arcsec": 1.0,
                "detector_px": [SIDE, SIDE],
                "filters": {"V": {"wavelength_nm": 550, "width_nm": 90}},
            }
        },
        "calibration": {"min_darks": 3, "min_flats": 3},
        "pipelines": [{"class": "pipelines.night.Calibration"}, {"class": "pipelines.ccd.CcdStack"}],
    }


class Sky:
    """A field of stars that moves from exposure to exposure."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)
        knots = np.argwhere(np.ones((7, 7)))[:N_STARS]  # so that no two stars are one
        self.places = 30 + 38 * knots + self.rng.uniform(-10, 10, (N_STARS, 2))
        self.fluxes = 10 ** self.rng.uniform(3.3, 5, N_STARS)

    def exposure(self, i: int) -> np.ndarray:
        y, x = np.indices((SIDE, SIDE))
        image = np.full((SIDE, SIDE), SKY)
        for (star_y, star_x), flux in zip(self.places, self.fluxes, strict=True):
            square = (y - star_y - 2 * i) ** 2 + (x - star_x + 3 * i) ** 2
            image += flux / (2 * np.pi * 1.6**2) * np.exp(-square / (2 * 1.6**2))
        return self.rng.poisson(image).astype(float)


def cards(kind: str, minute: int, **more: object) -> fits.Header:
    header = {"IMAGETYP": kind, "DATE-OBS": f"2026-03-14T21:{minute:02d}:00", "EXPTIME": 60.0, "FILTER": "V"}
    return fits.Header({**header, "RA": "10:00:00", "DEC": "+20:00:00", **more})


def amplifiers(image: np.ndarray, rng: np.random.Generator) -> list[fits.ImageHDU]:
    """Quarters of a frame, read from the corners inwards, each with an overscan of 20 columns."""
    made = []
    for k, (y, x) in enumerate([(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)]):
        part = image[y : y + HALF, x : x + HALF][:: -1 if y else 1, :: -1 if x else 1]
        read = np.pad(part, ((0, 0), (0, 20))) + LEVELS[k] + rng.normal(0, 3, (HALF, HALF + 20))
        hdu = fits.ImageHDU(np.clip(read, 0, 65535).astype(np.uint16), name=f"AMP{k + 1}")
        xs, ys = sorted((x + 1, x + HALF), reverse=bool(x)), sorted((y + 1, y + HALF), reverse=bool(y))
        hdu.header["DETSEC"] = f"[{xs[0]}:{xs[1]},{ys[0]}:{ys[1]}]"
        hdu.header["DATASEC"], hdu.header["BIASSEC"] = f"[1:{HALF},1:{HALF}]", f"[{HALF + 3}:{HALF + 20},1:{HALF}]"
        made.append(hdu)
    return made


def planes(image: np.ndarray, header: fits.Header) -> list[fits.ImageHDU]:
    """As LCO's pipeline writes them; a column is bad."""
    bad = np.zeros(image.shape, np.uint8)
    bad[:, 150] = 1
    light = np.where(bad, -1e6, image).astype(np.float32)
    named = {"SCI": light, "BPM": bad, "ERR": np.sqrt(image).astype(np.float32)}
    hdus = [fits.ImageHDU(data, name=name) for name, data in named.items()]
    hdus[0].header.update(header)
    return hdus


def write(path: Path, header: fits.Header, hdus: Sequence[fits.ImageHDU]) -> None:
    fits.HDUList([fits.PrimaryHDU(None, header), *hdus]).writeto(path)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, mongo_server: Server, scheduler: str) -> Path:
    folder = tmp_path_factory.mktemp("planes_and_amplifiers")
    raw, sky = folder / "raw" / NIGHT, Sky()
    raw.mkdir(parents=True)
    for i in range(3):
        header = cards("bias", i, EXPTIME=0.0)
        write(raw / f"bias_{i}.fits", header, amplifiers(np.zeros((SIDE, SIDE)), sky.rng))
        flat = sky.rng.poisson(20000, (SIDE, SIDE)).astype(float)
        write(raw / f"flat_{i}.fits", cards("flat", 5 + i, EXPTIME=2.0), amplifiers(flat, sky.rng))
        write(raw / f"amps_{i}.fits", cards("light", 10 + i, OBJECT="amps"), amplifiers(sky.exposure(i), sky.rng))
        write(raw / f"planes_{i}.fits", fits.Header(), planes(sky.exposure(i), cards("light", 20 + i, OBJECT="planes")))
        chips = [fits.ImageHDU(sky.exposure(i), name="SCI", ver=k) for k in (1, 2)]
        write(raw / f"chips_{i}.fits", cards("light", 30 + i, OBJECT="chips"), chips)
    config = folder / "config.json"
    services = running_services(mongo_server, scheduler)
    config.write_text(json.dumps(with_services(configuration(folder), services)))
    daemon = Forked(DAEMON, [str(config), "--once"], PROJECT)
    said, _ = daemon.communicate(timeout=120)
    assert daemon.returncode == 0, said
    (folder / "said").write_text(said)
    return folder


@pytest.mark.parametrize("target", ["amps", "planes"])
def test_one_frame_of_each_file_is_stacked(night: Path, target: str) -> None:
    (path,) = (night / "archive" / NIGHT).glob(f"*{target}*/ccd/*_stack.fits")
    stack, header = fits.getdata(path), fits.getheader(path)
    assert (stack.shape, header["NCOMBINE"]) == ((SIDE, SIDE), 3)
    assert np.nanmedian(stack) == pytest.approx(SKY, abs=2)
    assert np.count_nonzero(detect(np.asarray(stack, np.float32)).snr > 10) == N_STARS


def test_what_is_not_understood_is_refused_with_the_reason(night: Path) -> None:
    assert not list((night / "archive" / NIGHT).glob("*chips*/ccd/*_stack.fits"))
    assert "chips_0.fits: SCI,1, SCI,2 may be detectors or exposures" in (night / "said").read_text()
