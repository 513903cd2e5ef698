"""A simulated dataset that is reduced once for many tests, and a TOM."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import httpx
import pytest
from real_tom import SECRET, TomServer
from simulated import SMALL, Reduced, make

from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import StarField
from tests.once import made_once


@pytest.fixture(scope="session", params=[(1, 600), (2, 400)], ids=["seed 1", "seed 2"])
def reduced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reduced:
    """A crowded field with clouds, changing seeing and wrong coordinates, reduced; only to be read."""
    seed, n_stars = request.param
    field = StarField(seed=seed, n_stars=n_stars)
    return make(tmp_path_factory.mktemp(f"field{seed}") / "SIM" / "sinistro" / "ip", field)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset, reduced; only to be copied."""
    where = Path("SIM", "sinistro", "ip")
    return made_once(tmp_path_factory, "small", lambda folder: make(folder / where, SMALL, 4)) / where


@pytest.fixture
def dataset(small: Path, tmp_path: Path) -> Path:
    """A small dataset that is reduced, to be played with."""
    return Path(shutil.copytree(small, tmp_path / "data" / "SIM" / "sinistro" / "ip"))


SITE = Path(__file__).parent / "tom_site"
TOM_PYTHON = Path(__file__).parents[2] / ".venv-tom" / "bin" / "python"


@pytest.fixture(scope="session")
def tom_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TomServer]:
    """A real TOM Toolkit server on loopback, with the targets that the tests need."""
    assert TOM_PYTHON.exists(), "`make test` installs TOM Toolkit into .venv-tom; this test needs it"
    folder = tmp_path_factory.mktemp("tom")
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "TOM_FOLDER": str(folder),
        "DJANGO_SETTINGS_MODULE": "tom_settings",
        "PYTHONPATH": str(SITE),
    }
    django = [str(TOM_PYTHON), "-m", "django"]
    names = [demo_field.TARGET, "EVT", "EVT2"]
    command = [str(TOM_PYTHON), str(SITE / "populate.py"), SECRET, *names]
    told = subprocess.run(command, env=environment, check=True, cwd=folder, capture_output=True, text=True).stdout
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*django, "runserver", "--noreload", f"127.0.0.1:{port}"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/targets/", process)
            yield TomServer(f"http://127.0.0.1:{port}", json.loads(told)["token"])
        finally:
            process.terminate()
            process.wait(20)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    for _ in range(1200):
        try:
            if httpx.get(url, timeout=20).status_code < 500:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
        assert process.poll() is None, "the TOM did not start"
    sys.exit("the TOM did not start")
