"""The commands beside the daemon, as an administrator types them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.conftest import NIGHT, PROJECT, Site, stop_database
from tests.forked import COMMANDS, Forked

from .test_runs import EVERY_STEP_DONE


@pytest.fixture(scope="module")
def archive(reduced: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A reduced archive whose database is gone, and a share in its new one for the whole module."""
    folder = tmp_path_factory.mktemp("commands") / "site"
    shutil.copytree(reduced.folder, folder, ignore=shutil.ignore_patterns(".db"), copy_function=shutil.copy2)
    return Site(folder)


@pytest.fixture(autouse=True, scope="module")
def _database(archive: Site) -> object:
    with archive.store() as store:
        yield store
    stop_database(archive)


def command(archive: Site, name: str, *arguments: str, code: int = 0, stdin: str = "") -> str:
    """Run a command in a process that has everything imported, and return what it says."""
    process = Forked(COMMANDS, [*name.split(), str(archive.config_file), *arguments], PROJECT, stdin=stdin)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code, said
    return said


def program(archive: Site, name: str, *arguments: str, code: int = 0, stdin: str = "") -> str:
    """Run ``python -m obsarchive NAME config.json …`` as it is typed, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "obsarchive", *name.split(), str(archive.config_file), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_rebuild_restores_every_state_from_the_tree(archive: Site) -> None:
    assert "3 observation(s) added" in program(archive, "rebuild")
    assert archive.states() == EVERY_STEP_DONE


def test_status_tells_what_the_daemon_did_last(archive: Site) -> None:
    said = command(archive, "status")
    assert said.startswith("stopped")
    assert "no daemon runs: its last report is of 2" in said
    assert f"start it: obsarchive daemon {archive.config_file}" in said
    assert json.loads(program(archive, "status", "--json"))["totals"]["done"] == 8


def test_status_names_the_steps_of_an_observation_and_of_a_night(archive: Site) -> None:
    with archive.store() as store:
        obs_id = str(store.observations.collection.find_one({"name": "HIP_1"})["_id"])
    assert "bright_star:reduce\tdone\n" in command(archive, "status", obs_id)
    assert "calib:" in command(archive, "status", NIGHT)
    assert "no observation or night 'nothing'" in command(archive, "status", "nothing", code=2)


def test_status_gives_the_address_for_the_mongo_shell(archive: Site) -> None:
    assert command(archive, "status", "--uri").startswith("mongodb://")


def test_verify_of_an_archive_that_is_away_finds_nothing_in_order(archive: Site, tmp_path: Path) -> None:
    document = json.loads(archive.config_file.read_text())
    document["paths"]["archive"] = str(tmp_path / "mount")
    other = tmp_path / "config.json"
    other.write_text(json.dumps(document))
    ran = [sys.executable, "-m", "obsarchive", "verify", str(other)]
    away = subprocess.run(ran, capture_output=True, text=True, check=False)
    assert away.returncode == 2
    assert "is its disk mounted?" in away.stderr
    (tmp_path / "mount").mkdir()
    assert "holds no night yet" in subprocess.run(ran, capture_output=True, text=True, check=True).stdout


def test_verify_finds_a_flipped_byte(archive: Site) -> None:
    assert "as it was made" in program(archive, "verify")
    product = archive.layout.observation(NIGHT, archive.observation("HIP_1")) / "bright_star/frames.txt"
    whole = product.read_bytes()
    product.write_bytes(whole[:-2] + b"?\n")
    assert "frames.txt differs from its checksum" in command(archive, "verify", code=1)
    product.write_bytes(whole)


def test_redo_sets_a_wish(archive: Site, _database: object) -> None:
    command(archive, "rebuild")
    name = archive.observation("KOI-2")
    program(archive, "redo", name, "bright_star")
    document = _database.observations.find(name)  # type: ignore[attr-defined]
    assert document["pipelined"]["bright_star"]["status"]["force_redo"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nobody", "bright_star"), "no observation or night 'nobody'"),
        (("nobody", "bright_stat"), "there are calib, bright_star"),
        (("nobody", "bright_star:redux"), "it has reduce, strehl, pca, preview"),
    ],
)
def test_a_redo_of_nothing_is_refused(archive: Site, arguments: tuple[str, str], words: str) -> None:
    assert words in command(archive, "redo", *arguments, code=2)


def test_a_redo_that_the_rule_excludes_is_rejected(archive: Site) -> None:
    command(archive, "rebuild")
    name, before = archive.observation("KOI-2"), json.loads(archive.config_file.read_text())["pipelines"]
    archive.change(pipelines=[before[0], {**before[1], "when": "name == 'HIP_1'"}])
    try:
        words = "bright_star is not for this observation: its rule is name == 'HIP_1'"
        assert words in command(archive, "redo", name, "bright_star", code=2)
        assert words in command(archive, "redo", name, "bright_star:preview", code=2)
        assert "calib is a pipeline of nights" in command(archive, "redo", name, "calib", code=2)
    finally:
        archive.change(pipelines=before)


def test_users_come_and_go_and_own_their_programmes(archive: Site, _database: object) -> None:
    command(archive, "rebuild")
    said = command(archive, "users add", "galileo", "--programs", "4.1,9")
    assert "/welcome#" in said
    document = _database.observations.find(archive.observation("KOI-2"))  # type: ignore[attr-defined]
    assert document["science_program"]["program_PI"] == ["galileo"]
    program(archive, "users passwd", "galileo", "--password-stdin", stdin="four moons of jupiter\n")
    assert "galileo                  4.1, 9" in command(archive, "users list")
    users = _database.users  # type: ignore[attr-defined]
    users.save("galileo", {"totp": {"secret": "x", "last_step": 0}})
    command(archive, "users one-step", "galileo")
    assert "totp" not in users.find("galileo")
    command(archive, "users remove", "galileo")
    assert "galileo" not in command(archive, "users list")


def test_simulate_writes_the_demo_night(archive: Site, tmp_path: Path) -> None:
    assert "expected a night written YYYYMMDD" in program(archive, "simulate", "--night", "2026-03-14", code=2)
