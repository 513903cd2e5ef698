"""SIGTERM and Ctrl-C in the middle of long commands: they end soon, whole, with a message and a code of their own."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from obsarchive.io.dataset_lock import LOCK
from obsarchive.simulation import field
from obsarchive.simulation.star_field import StarField

ROOT = Path(__file__).parents[2]
NIGHT = "20260314"
PRODUCT = f"{NIGHT}/4_star_VIC_Si_o_{NIGHT}_030001.000000/bright_star/100p.fits"
STARTS_S, ENDS_S = 150.0, 70.0
"""A busy machine needs much of it; the watchdog of a command ends it after 60 s."""

Started = tuple[list[str], Callable[[], bool]]
"""What follows the name of the program, and whether the command is in the middle of its work."""


def verifying(folder: Path) -> Started:
    """A product that is a pipe, so that its checksum never comes."""
    product = folder / "archive" / PRODUCT
    product.parent.mkdir(parents=True)
    os.mkfifo(product)
    manifest = {"products": [{"name": product.name, "sha256": hashlib.sha256(b"").hexdigest()}]}
    (product.parent / ".reduce.json").write_text(json.dumps(manifest))
    opened: list[int] = []

    def is_read() -> bool:
        try:
            opened.append(os.open(product, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    return ["verify", "config.json"], is_read


def downloading(folder: Path) -> Started:
    """An online archive that accepts connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    heard: list[socket.socket] = [server]
    archive = {"name": "LCO", "active": True, "url": f"http://127.0.0.1:{server.getsockname()[1]}/", "proposals": ["K"]}
    request = {
        "archives": {"lco": {**archive, "token_envvar": "LCO_TOKEN", "reduction_level": {"image": 91}}},
        **{f"{name}_dir": str(folder / name) for name in ("log", "data_download", "data_reduction")},
        **{"frame_list": str(folder / "frames.txt"), "default_red_config": str(folder / "default.yaml")},
        **{"start_datetime": "2024-07-01 00:00", "end_datetime": "2024-08-31 23:59"},
    }
    (folder / "default.yaml").write_text("{}")
    (folder / "download.yaml").write_text(json.dumps(request))

    def is_asked() -> bool:
        try:
            heard.append(server.accept()[0])
        except TimeoutError:
            return False
        return True

    return ["download", "download.yaml", "--config", "config.json"], is_asked


def fetching(folder: Path) -> Started:
    """A survey that takes its time for each of many sources."""
    project = """
project: {name: slow, obs_names: [DEMO]}
catalog: {test_size: 500}
observatories: {DEMO: {wait_time: 0.3, download_batch_size: 4}}
"""
    (folder / "slow.yaml").write_text(project)
    return ["surveys", "run", "slow.yaml", "--workers", "0"], lambda: any((folder / "data").rglob("*.h5"))


def reducing(folder: Path) -> Started:
    dataset = folder / "EVT" / "sinistro" / "ip"
    field.write_dataset(dataset, StarField(n_stars=60, seed=3), 6)
    return ["reduce", str(dataset), "--config", "config.json"], (dataset / LOCK).exists


def simulating(folder: Path) -> Started:
    """Half a night would be taken for one's own data by the next `run`."""
    return ["simulate", "config.json"], lambda: any((folder / "raw").rglob("*.bz2"))


def _processes_in(folder: Path) -> list[str]:
    commands = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [command for command in commands if str(folder) in command]


@pytest.mark.parametrize(
    ("start", "number"),
    [
        (verifying, signal.SIGTERM),
        (verifying, signal.SIGINT),
        (downloading, signal.SIGTERM),
        (fetching, signal.SIGTERM),
        (reducing, signal.SIGTERM),
        (simulating, signal.SIGINT),
    ],
)
def test_a_long_command_that_is_stopped_ends_clean(
    tmp_path: Path, start: Callable[[Path], Started], number: signal.Signals
) -> None:
    paths = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    config = {"paths": paths, "surveys": {"data": "data"}, "parallel": {"n_workers": 1}, "pipelines": []}
    (tmp_path / "config.json").write_text(json.dumps(config))
    words, is_busy = start(tmp_path)
    environment = {**os.environ, "LCO_TOKEN": "x", "PYTHONPATH": str(ROOT)}
    log = tmp_path / "said"
    with log.open("w") as said:  # a process of its own: what is closed at its exit counts, too
        program = [sys.executable, "-m", "obsarchive", *words]
        command = subprocess.Popen(program, cwd=tmp_path, env=environment, stdout=said, stderr=said)
    try:
        until = time.monotonic() + STARTS_S
        while not is_busy():
            assert command.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        time.sleep(0.3)  # Python learns of a signal just before a read that waits when the read ends
        command.send_signal(number)
        assert command.wait(ENDS_S) == 128 + number, log.read_text()
    finally:
        command.kill()
    said = log.read_text()
    assert f"stopped by {number.name} before it was done; run it again to go on" in said
    assert "Traceback" not in said
    until = time.monotonic() + ENDS_S  # a server that forks steps ends when it has imported them
    while (left := _processes_in(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name or path.suffix == ".tmp"]
    assert not (tmp_path / "raw" / NIGHT).exists()


def test_a_signal_that_an_import_makes_another_exception_of_is_still_one() -> None:
    """Python 3.11 does so in `__set_name__`."""
    code = """
import signal, sys
from obsarchive.cli import main, verify
class Field:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGTERM)
def run(options):
    class Holder:
        field = Field()
verify.run = run
sys.exit(main.main(["verify", "config.json"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (ended.returncode, ended.stderr) == (
        143,
        "archiver: stopped by SIGTERM before it was done; run it again to go on\n",
    )


IGNORED = """
import os, signal, sys, time, types
from argparse import ArgumentParser
from obsarchive.cli import main

class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        time.sleep(1)  # what is raised in a finaliser is ignored

def run(options):
    held = Held()
    del held
    time.sleep(30)
    return 0

sys.modules["obsarchive.cli.held"] = types.ModuleType("held")
sys.modules["obsarchive.cli.held"].run = run
parser = ArgumentParser()
parser.set_defaults(run="held.run", sender="")
sys.exit(main._execute(parser, []))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_a_finaliser_ignores_is_tried_again(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", IGNORED.replace("{name}", number.name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr == f"stopped by {number.name} before it was done; run it again to go on\n"
