"""A night on a replica set of three members with TLS, as users of least privilege, through every loss of a member."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from obsarchive.accounts import users as accounts
from obsarchive.config.loading import load
from obsarchive.database.connect import open_store
from obsarchive.errors import ServiceUnavailable
from obsarchive.store import Store
from obsarchive.web import create_app
from tests.daemon.conftest import CONFIG, NIGHT, Site, states, tree, wait_for
from tests.daemon.replica_set import ReplicaSet, replica_set

from .test_commands import command
from .test_runs import EVERY_STEP_DONE

DATABASE = "roboao"
REFUSED = "not authorized"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    with replica_set(tmp_path_factory.mktemp("servers"), DATABASE) as made:
        yield made


@pytest.fixture(scope="module")
def night(servers: ReplicaSet, raw_night: Path, scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose night was reduced while the primary stepped down, and another one was killed."""
    site = Site(tmp_path_factory.mktemp("night") / "site")
    (site.folder / "raw").mkdir(parents=True)
    shutil.copytree(raw_night, site.night)
    site.config_file.write_text(json.dumps(CONFIG))
    site.change(database=servers.section(DATABASE, "archiver"), parallel={"scheduler": scheduler})
    daemon = site.start("--once")
    with site.store() as store:
        wait_for(lambda: "done" in states(store).values() or daemon.poll() is not None)
        servers.step_down()
        wait_for(lambda: list(states(store).values()).count("done") >= 4 or daemon.poll() is not None)
        wait_for(servers.primary)
        lost = servers.primary()
        assert lost is not None
        lost.kill()
    said, _ = daemon.communicate(240)
    assert daemon.returncode == 0, said
    assert "nothing is due any more" in said
    lost.start()
    return site


def test_the_night_is_what_it_is_without_losses(night: Site, reduced: Site) -> None:
    assert night.states() == EVERY_STEP_DONE
    assert tree(night) == tree(reduced)
    with night.store() as store:
        attempts = list(store.database["jobs"].find({"state": {"$ne": "released"}}))
        assert {attempt["state"] for attempt in attempts} <= {"done", "lacking", "rejected"}
        ended = [(attempt["subject"], attempt["pipeline"], attempt["step"]) for attempt in attempts]
        assert len(ended) == len(set(ended)), "no step was done twice"


def test_the_commands_need_nothing_more(night: Site, tmp_path: Path) -> None:
    assert "3 observation(s)" in command_check(night)
    assert command(night, "status").startswith("stopped")
    assert "redo requested" in command(night, "redo", night.observation("HIP_1"), "bright_star:strehl")
    assert "users add" not in command(night, "users add", "ada", "--programs", "3")
    assert "ada" in command(night, "users list")
    assert "as it was made" in command(night, "verify")
    assert "added" in command(night, "rebuild")
    file = tmp_path / "backup"
    assert "1 users" in command(night, "backup", str(file))
    command(night, "users remove", "ada")
    assert "users: 1 restored" in command(night, "restore", str(file))
    assert "mongodb://" in command(night, "status", "--uri")


def command_check(night: Site) -> str:
    said = night.run("--check")
    assert re.search(r"valid; .*; MongoDB \d+\.\d+\.\d+", said)
    return said


def test_the_daemon_may_do_no_more_than_it_needs(night: Site) -> None:
    with night.store() as store:
        database = store.database
        for refused in (
            lambda: database["audit"].drop(),
            lambda: database.client.drop_database(DATABASE),
            lambda: database.command("createUser", "me", pwd="me", roles=[]),
            lambda: database.client["another"]["x"].insert_one({}),
            lambda: list(database.client["admin"]["system.users"].find()),
            lambda: database["objects"].drop_indexes(),
        ):
            with pytest.raises(OperationFailure, match=REFUSED):
                refused()


def test_the_portal_works_as_its_own_user(night: Site, servers: ReplicaSet) -> None:
    raw = json.loads(night.config_file.read_text())
    raw["database"] = servers.section(DATABASE, "archiver-portal")
    file = night.folder / "portal.json"
    file.write_text(json.dumps(raw))
    config = load(file)
    with open_store(config) as store:
        client = create_app(config, store).test_client()
        accounts.add_user(store.users, "grace", "all")
        accounts.set_password(store.users, "grace", "perihelion of 1801")
        token = client.get("/login").text.split('name="csrf_token" value="')[1].split('"')[0]
        fields = {"csrf_token": token, "username": "grace", "password": "perihelion of 1801"}
        assert client.post("/login", data=fields).status_code == 302
        for page in (f"/night/{NIGHT}", f"/observation/{night.observation('HIP_1')}", "/jobs", "/users"):
            assert client.get(page).status_code == 200, page
        with pytest.raises(OperationFailure, match=REFUSED):
            store.observations.request_redo(night.observation("HIP_1"), "bright_star")


def test_without_tls_or_with_a_foreign_authority_nobody_gets_in(servers: ReplicaSet, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    from tests.daemon.replica_set import certificates

    ca, _ = certificates(foreign)
    hosts = ",".join(member.host for member in servers.members)
    for options in ("", f"?tls=true&tlsCAFile={ca}"):
        with pytest.raises(ServiceUnavailable):
            Store(f"mongodb://archiver:p%3A%40%2Fss@{hosts}/{options}", DATABASE, timeout_s=2)
