"""From an online archive to a light curve in the TOM, by commands, and by a daemon that is killed again and again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_tom import SECRET, TomServer

from obsarchive.cli.main import main
from obsarchive.database.embedded_mongod import Server
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import Camera, StarField
from obsarchive.timeseries.products import read_table
from tests.forked import DAEMON, Forked
from tests.frames_api import TOKEN, Sky, serve
from tests.services import IN_PROCESS, running_services

PROPOSALS = ("SIM2026A-001", "SIM2026A-002", "KEY2026B-007")
FIELD = StarField(seed=4, n_stars=60, camera=Camera(shape=(256, 256)))
KILLS = int(os.environ.get("WHOLE_RUN_KILLS", "5"))
N_FRAMES = int(os.environ.get("WHOLE_RUN_FRAMES", "18"))
"""Of the run that is killed: a whole one has 200 frames."""


def fill(sky: Sky, n: int, folder: Path) -> None:
    """Give an archive `n` frames of three proposals: three targets, some of them in two filters."""
    for number in range(n):
        proposal = PROPOSALS[number % 3]
        frame = FIELD.frame(number, demo_field.FIRST_MJD + 0.5 * number)
        path = folder / f"{demo_field.name_of(number)}.fz"
        demo_field.write_frame(path, frame, FIELD, packed=True)
        target = demo_field.TARGET if proposal == PROPOSALS[0] else f"SIM-{proposal[-3:]}"
        day = f"2024-06-{19 + number // 100:02d}T{(number // 60) % 24:02d}:{number % 60:02d}:00Z"
        sky.add(path.name, proposal, day, path.read_bytes(), target_name=target)


def write_files(folder: Path, url: str, tom_url: str, label: str = "SIM", **sections: Any) -> Path:
    """Write everything that a user writes; returns the configuration of the archive, with more sections if wanted."""
    demo_field.write_catalogue(folder / "catalogue.csv", FIELD)
    (folder / "tom_config.yaml").write_text(f"url: {tom_url}\ntom_user_id: archiver\ntom_password_envvar: TOM_SECRET\n")
    (folder / "default_red_config.yaml").write_text(
        "target:\n  name: ''\n  RA: ''\n  Dec: ''\n"
        "photometry:\n  aperture_arcsec: 2.0\n  catalogue: catalogue.csv\n"
        f"tom:\n  upload: True\n  config_file: tom_config.yaml\n  data_label: '{label}'\n"
    )
    proposals = "".join(f"      - '{name}'\n" for name in PROPOSALS)
    (folder / "data_download.yaml").write_text(
        f"archives:\n  lco:\n    name: 'LCO'\n    active: True\n    url: '{url}/'\n    token_envvar: 'LCO_TOKEN'\n"
        f"    proposals:\n{proposals}    reduction_level:\n      image: 91\n      spectrum: 91\n"
        "log_dir: logs\nframe_list: logs/frame_list.txt\ndata_download_dir: incoming\ndata_reduction_dir: data\n"
        "start_datetime: '2024-06-01 00:00'\nend_datetime: '2024-07-31 23:59'\n"
        "default_red_config: default_red_config.yaml\n"
    )
    (folder / "raw").mkdir()
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {
                "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
                "pipelines": [{"class": "pipelines.night.Calibration"}],
                "daemon": {"loop_interval_s": 0.2},
                "intake": {"download": "data_download.yaml", "every_h": 0.0003, "max_parallel": 2},
                **sections,
            }
        )
    )
    return config


@pytest.fixture
def sky() -> Sky:
    return Sky()


@pytest.fixture
def server(sky: Sky) -> Iterator[Any]:
    found = serve(sky, page=50)
    yield found
    found.shutdown()
    found.server_close()


ENVIRONMENT = {**os.environ, "LCO_TOKEN": TOKEN, "TOM_SECRET": SECRET, "PYTHONPATH": str(Path(__file__).parents[2])}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "obsarchive", *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def products(folder: Path) -> dict[str, Any]:
    """Everything that counts: which frames lie where, and every light curve."""
    found: dict[str, Any] = {
        path.relative_to(folder).as_posix(): path.stat().st_size for path in (folder / "data").rglob("*-e91.fits")
    }
    for path in sorted((folder / "data").rglob("photometry.h5")):
        table = read_table(path)
        found[path.relative_to(folder).as_posix()] = [np.asarray(table[name]).tobytes() for name in ("star_id", "flux")]
    for path in sorted((folder / "data").rglob("*_lc.*")):
        found[path.relative_to(folder).as_posix()] = path.read_text().replace(f",{folder.name}_ip,", ",_ip,")
    return found


def in_the_tom(server: TomServer, label: str) -> list[tuple[str, float]]:
    entries = server.asked("/api/reduceddatums/?data_type=photometry&limit=5000")["results"]
    mine = [entry for entry in entries if entry["value"]["bandpass"] == f"{label}_ip"]
    return sorted((entry["timestamp"], entry["value"]["brightness"]) for entry in mine)


def test_the_commands_lead_from_the_archive_to_the_tom(
    sky: Sky,
    server: Any,
    tom_server: TomServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(sky, 6, tmp_path)  # two of the three targets are not in the TOM
    write_files(tmp_path, server.root, tom_server.url).unlink()  # by somebody who has no archive
    fetched = command(tmp_path, "download", "data_download.yaml")
    assert (fetched.returncode, fetched.stdout) == (0, "6 fetched, 6 sorted\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCO_TOKEN", TOKEN)
    assert main(["download", "data_download.yaml"]) == 0
    assert capsys.readouterr().out == "nothing new\n"
    (tmp_path / "reduction_manager_config.yaml").write_text(
        "log_dir: logs\ndata_reduction_dir: data\nsoftware_dir: /opt\ninstrument_list: ['sinistro']\n"
        "dataset_selection:\n  group: 'all'\nmax_parallel: 2\n"
    )
    assert main(["reduce", "reduction_manager_config.yaml", "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    reduced = command(tmp_path, "reduce", "reduction_manager_config.yaml")
    assert reduced.returncode == 0, reduced.stderr
    assert reduced.stdout.count(": done: ") == 3
    assert "2 points uploaded as SIM_ip" in reduced.stdout
    assert "knows 0 targets called 'SIM-002'" in reduced.stdout
    assert (tmp_path / "logs" / "arcon_pipeline.log").stat().st_size
    dataset = f"data/{demo_field.TARGET}/sinistro/ip"
    assert main(["lightcurve", dataset, "268.5", "-29:30:00"]) == 0
    assert "the target" in capsys.readouterr().out
    everything = (fetched.stderr + reduced.stderr + reduced.stdout).encode()
    for path in (*tmp_path.rglob("*.log"), *tmp_path.rglob("*.json")):
        everything += path.read_bytes()
    assert TOKEN.encode() not in everything
    assert b"/data/lsc" not in everything, "addresses of frames are signed: they are nobody's business"
    assert SECRET.encode() not in everything


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["download", "gone.yaml"], "gone.yaml: no such file"),
        (["reduce", "raw"], "is no dataset"),
        (["reduce", "gone.yaml"], "gone.yaml: no such file"),
        (["lightcurve", "raw", "x", "1"], "a right ascension such as"),
        (["lightcurve", "raw", "1", "2"], "reduction_config.yaml"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    (tmp_path / "raw").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def daemon(folder: Path, *more: str) -> Forked:
    return Forked(DAEMON, ["config.json", *more], folder, ENVIRONMENT, log=folder / "daemon.log")


def progress(folder: Path) -> int:
    """Count the frames that are sorted, and those that are measured."""
    data = folder / "data"
    return len(list(data.rglob("*-e91.fits"))) + len(list(data.rglob("raw_flux/*.npz")))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_again_and_again_it_ends_as_undisturbed(
    sky: Sky, server: Any, tom_server: TomServer, tmp_path: Path, mongo_server: Server, scheduler: str
) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    fill(sky, N_FRAMES, tmp_path)
    services = {folder: running_services(mongo_server, scheduler) for folder in (calm, rough)}
    workers = {"class": "distributed.LocalCluster", "settings": {**IN_PROCESS, "threads_per_worker": 2}}
    services[rough]["parallel"] = {"n_workers": 1, "scheduler": workers}  # they are killed with the daemon
    for folder, sections in services.items():
        folder.mkdir()
        write_files(folder, server.root, tom_server.url, folder.name, **sections)
    assert daemon(calm, "--once").wait(200) == 0, (calm / "daemon.log").read_text()[-3000:]
    rng = random.Random(7)
    for kill in range(KILLS):
        process = daemon(rough)
        # somewhere in this part of the work: every frame is fetched and measured
        goal = (kill + rng.random()) / (KILLS + 1) * 2 * N_FRAMES
        deadline = time.monotonic() + 60
        while process.poll() is None and progress(rough) < goal and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    assert daemon(rough, "--once").wait(250) == 0, (rough / "daemon.log").read_text()[-3000:]
    expected, found = products(calm), products(rough)
    assert sum(name.endswith("-e91.fits") for name in expected) == N_FRAMES
    assert sum(name.endswith("photometry.h5") for name in expected) == 3
    assert list(found) == list(expected)
    assert all(found[name] == expected[name] for name in expected)
    assert in_the_tom(tom_server, "rough") == in_the_tom(tom_server, "calm")
    assert len(in_the_tom(tom_server, "calm")) == -(-N_FRAMES // 3)
    assert not list(rough.rglob("*.part"))
    assert not list(rough.rglob("dataset.lock"))
