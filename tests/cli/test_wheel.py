"""The wheel alone is enough: a configuration, a night reduced, the portal with its style sheet."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGED = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "config.json")
FOLDERS = ("obsarchive", "pipelines", "surveys", "templates", "static", "docs")
WRITE_NIGHT = """
import sys
from pathlib import Path
from obsarchive.simulation.night import NightPlan, Target, write_night
from obsarchive.simulation.scenes import Scene, Star
shape = (128, 128)
scenes = Scene((Star(),), zero_flux_e=4e4), Scene((Star(), Star(0.4, 0.3, 2.0)), zero_flux_e=4e4)
targets = [Target("3", f"HIP_{n}", "Si", scenes[n % 2], n_frames=24, shape=shape) for n in range(3)]
write_night(Path(sys.argv[1]), NightPlan("20260314", targets, 3, 2, n_seeing=1, detector=shape, seed=3))
"""

OWN_PIPELINE = """
from obsarchive.pipeline import Pipeline, Workspace, step
class Own(Pipeline):
    name = "own"
    @step(makes=["{id}.txt"], uses=["science"])
    def write(self, work: Workspace) -> dict:
        work.publish("{id}.txt", b"seen")
        return {}
"""


class Installed:
    """The wheel in an environment of its own, and a folder that its commands start in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.programs = folder / "environment" / "bin"

    def command(self, *words: str) -> list[str]:
        return [str(self.programs / words[0]), *words[1:]]

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(self, *words: str, code: int = 0) -> str:
        command = self.command(*words)
        ended = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel from what git knows, and install it where nothing but what it depends on is found."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PACKAGED:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps"]
    wheels = folder / "wheels"
    subprocess.run([*pip, "wheel", *options, "--no-build-isolation", "-w", str(wheels), str(source)], check=True)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (wheel,) = wheels.iterdir()
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", *options, str(wheel)], check=True)
    (own,) = environment.glob("lib/python*/site-packages")
    # The path file brings what we depend on, and not ourselves: those of other folders are not read.
    (own / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return Installed(folder)


def test_what_is_imported_is_the_wheel(installed: Installed) -> None:
    code = "import obsarchive, pipelines, surveys; print(obsarchive.__file__, pipelines.__file__, surveys.__file__)"
    files = installed.run("python", "-c", code).split()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(installed.programs.parent) for file in files)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_night_is_reduced_and_shown(installed: Installed) -> None:
    config_file = installed.folder / "mine" / "config.json"
    said = installed.run("obsarchive", "init", "mine")
    assert "obsarchive run mine/config.json" in said
    assert "mine/config.json exists already" in installed.run("obsarchive", "init", "mine", code=2)

    config = json.loads(config_file.read_text())
    assert config == json.loads((ROOT / "config.json").read_text())
    for telescope in ("Palomar_P60", "KPNO_2.1m"):
        config["telescope"][telescope]["detector_px"] = [128, 128]
    config["parallel"]["n_workers"] = 1  # each compiles for itself what the wheel brings
    config["calibration"] |= {"min_darks": 3, "min_flats": 2}
    config["daemon"] |= {"settle_time_s": 0, "loop_interval_s": 0.5}
    config["server"]["port"] = free_port()
    config["pipelines"].append({"class": "own.Own"})
    (installed.folder / "own.py").write_text(OWN_PIPELINE)  # where the commands are started
    config_file.write_text(json.dumps(config))
    installed.run("python", "-c", WRITE_NIGHT, "mine/data/raw")
    said = installed.run("obsarchive", "daemon", "mine/config.json", "--once")
    assert re.search(r"steps of this run: \d+ done\n", said), said  # the stars are references of each other
    assert len(list((installed.folder / "mine/data/archive/20260314").glob("3_HIP_*/bright_star/100p.fits"))) == 3

    portal = subprocess.Popen(
        installed.command("obsarchive", "serve", "mine/config.json", "--no-link"),
        cwd=installed.folder,
        env=installed.environment,
        stderr=subprocess.PIPE,
    )
    try:
        address = f"http://127.0.0.1:{config['server']['port']}"
        page = opened(f"{address}/login").decode()
        style = re.search(r'href="(/static/archiver\.css[^"]*)"', page)
        assert style is not None, page
        assert opened(address + style[1]) == (ROOT / "static" / "archiver.css").read_bytes()
    finally:
        portal.send_signal(signal.SIGINT)
        portal.communicate(timeout=60)
    assert portal.returncode == 0


def opened(address: str) -> bytes:
    """What stands at an address of a server that is starting."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own server
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nobody answers at {address}")
