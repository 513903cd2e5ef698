"""The worked example of `docs/adapting.md`: its module and its configuration reduce a night of another camera."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.pipeline import Workspace
from tests.docs.test_docs import ROOT, blocks

PAGE = (ROOT / "docs" / "adapting.md").read_text()
MODULE, _PAGE_OF_THE_PORTAL = blocks(PAGE, "python")
"""The second block is tested in `tests/web/test_own_pages.py`."""
(CONFIGURATION,) = blocks(PAGE, "json")
SHAPE = (256, 300)
SIGMA_PX, BIAS_ADU, SKY_ADU = 1.3, 500.0, 200.0
DRIFT = ((0, 0), (3, -5), (-4, 6))


def simulate(night: Path) -> None:
    """Write raw files of a field of 40 stars."""
    rng = np.random.default_rng(20260314)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    response = 1 - 0.2 * np.hypot(yy - 128, xx - 150) / 200
    places = np.stack([rng.uniform(30, SHAPE[0] - 30, 40), rng.uniform(30, SHAPE[1] - 30, 40)], axis=1)
    light = 10 ** rng.uniform(3.3, 4.6, 40)

    def put(name: str, adu: np.ndarray, **cards: object) -> None:
        noisy = rng.poisson(np.clip(adu, 0, None)) + BIAS_ADU + rng.normal(0, 4, SHAPE)
        header = fits.Header({"EXPTIME": 60.0, **cards})
        fits.PrimaryHDU(np.clip(noisy, 0, 65535).astype(np.uint16), header).writeto(night / f"{name}.fits")

    for i in range(5):
        put(f"dark-none-none-20260314T180000-{i}", np.zeros(SHAPE))
        put(f"flat-sky-V-20260314T190000-{i}", 20000 * response)
    for i, (dy, dx) in enumerate(DRIFT):
        sky = np.full(SHAPE, SKY_ADU)
        for (y, x), flux in zip(places + np.array([dy, dx]), light, strict=True):
            sky += flux / (2 * np.pi * SIGMA_PX**2) * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * SIGMA_PX**2))
        put(f"light-M67-V-20260314T210000-{i}", sky * response)
    put("light-cloud-V-20260314T220000-0", SKY_ADU * response)
    (night / "weather.txt").write_text("cloudy later")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("courtyard")
    (folder / "courtyard.py").write_text(MODULE)
    config = json.loads(CONFIGURATION)
    config["daemon"] = {"loop_interval_s": 0.3, "settle_time_s": 0.2, "min_free_gb": 0, "max_retries": 0}
    config["server"] = {"port": 0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "data" / "raw" / "20260314").mkdir(parents=True)
    simulate(folder / "data" / "raw" / "20260314")
    return folder


def run(site: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "archiver.py"), str(site / "config.json"), *options],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def manifest(site: Path, target: str, step: str) -> dict:
    pipeline, name = step.split(":")
    night = site / "data" / "archive" / "20260314"
    (folder,) = [path for path in night.iterdir() if f"_{target}_" in path.name]
    return json.loads((folder / pipeline / f".{name}.json").read_text())


def test_camera_and_pipeline_are_thirty_lines() -> None:
    code = [line for line in MODULE.splitlines() if line.strip() and not line.startswith(("import", "from", '"""'))]
    assert len(code) <= 30


def test_the_example_reduces_a_night(site: Path) -> None:
    assert re.search(r"pipelines: ccd, image_quality; MongoDB .*\n20260314: 2 observation\(s\)", run(site, "--check"))
    run(site, "--once")
    found = manifest(site, "M67", "image_quality:measure")
    truth = 0.9 * 2.3548 * np.hypot(SIGMA_PX, 1 / np.sqrt(12))
    assert found["state"] == "done"
    assert found["results"]["fwhm_arcsec"] == pytest.approx(truth, rel=0.08)
    assert 30 <= found["results"]["stars"] <= 40
    cloud = manifest(site, "cloud", "image_quality:measure")
    assert (cloud["state"], cloud["message"]) == ("rejected", "no star in the first frame")
    stack = manifest(site, "M67", "ccd:stack")["results"]
    assert (stack["frames_used"], stack["calibration"]) == (3, "dark_0, flat_V")
    assert stack["shift_error_px"] < 0.05


def test_every_name_of_the_tables_exists() -> None:
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    offered = set(re.findall(r"`work\.(\w+)`", tables))
    assert len(offered) > 10
    assert {name for name in offered if not hasattr(Workspace, name)} == {"progress", "settings"}
    functions = re.findall(r"^\| `(\w+)` \| `([\w/]+)\.py` \|", tables, re.MULTILINE)
    assert len(functions) > 6
    for name, module in functions:
        assert callable(getattr(importlib.import_module(module.replace("/", ".")), name)), name
