"""The embedded MongoDB: real servers, started, shared, killed and healed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import psutil
import pytest
from pymongo import GEOSPHERE, MongoClient
from pymongo.errors import OperationFailure

from obsarchive.core.stop_signals import stop_signals_deferred
from obsarchive.database import embedded_mongod
from obsarchive.database.embedded_mongod import EmbeddedMongod, find_mongod
from obsarchive.errors import ServiceUnavailable

UNAUTHORIZED = 13


def pid_in(folder):
    """Return the process id of the server of a folder, None where none runs."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        pid = int((folder / "data" / "mongod.lock").read_text())
        return pid if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    return None


@pytest.fixture
def folder(tmp_path):
    yield tmp_path / "db"
    pid = pid_in(tmp_path / "db")
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    embedded = EmbeddedMongod(tmp_path_factory.mktemp("embedded") / "db", database="book")
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def server(embedded):
    return embedded.ensure()


@pytest.fixture
def book(server):
    with MongoClient(server.uri, serverSelectionTimeoutMS=10_000) as client:
        yield client.book
        client.book.drop_collection("objects")


class User:
    """Another process with a share in the server of a folder, until it is told to leave."""

    PROGRAM = """
import sys
from pathlib import Path
from obsarchive.database.embedded_mongod import EmbeddedMongod
with EmbeddedMongod(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""

    def __init__(self, folder, program=PROGRAM):
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.process:
            self.process.kill()

    def server_pid(self):
        return int(self.process.stdout.readline())

    def leave(self):
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def be_killed(self):
        self.process.kill()
        self.process.wait(timeout=60)


class TestSignals:
    PROGRAM = """
import signal, sys, time
from pathlib import Path
from obsarchive.database.embedded_mongod import EmbeddedMongod
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
print("ready", flush=True)
with EmbeddedMongod(Path(sys.argv[1])):
    time.sleep(60)
"""

    @pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1, 0.2, 0.3, 0.5, 0.8, 1.1, 1.5])
    def test_a_user_terminated_while_the_server_starts_leaves_none(self, folder, delay_s):
        with User(folder, self.PROGRAM) as user:
            assert user.process.stdout.readline() == "ready\n"
            time.sleep(delay_s)
            user.process.terminate()
            assert user.process.wait(60) == 128 + signal.SIGTERM
        time.sleep(0.2)
        assert pid_in(folder) is None
        data = str(folder / "data")
        assert [
            process.pid for process in psutil.process_iter(["cmdline"]) if data in (process.info["cmdline"] or ())
        ] == []

    def test_signals_wait_until_the_block_has_ended(self):
        arrived = []
        former = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
        try:
            with stop_signals_deferred():
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGTERM)
                assert arrived == []
            assert arrived == [signal.SIGTERM]
        finally:
            signal.signal(signal.SIGTERM, former)


class TestServer:
    def test_keeps_what_is_acknowledged_on_disk(self, book):
        assert book.command("ping")["ok"] == 1
        assert book.client.write_concern.document == {"w": "majority", "j": True}
        assert book.client.options.retry_writes

    def test_refuses_strangers(self, server):
        with MongoClient("127.0.0.1", server.port, directConnection=True) as stranger:
            for command in ({"find": "objects"}, {"createUser": "me", "pwd": "me", "roles": ["root"]}):
                with pytest.raises(OperationFailure) as refusal:
                    stranger.book.command(command)
                assert refusal.value.code == UNAUTHORIZED

    def test_application_may_use_its_database_only(self, book):
        with pytest.raises(OperationFailure) as refusal:
            book.client.other.objects.insert_one({})
        assert refusal.value.code == UNAUTHORIZED

    def test_application_may_do_what_the_store_does(self, book):
        book.objects.create_index([("position", GEOSPHERE)])
        with book.client.start_session() as session, session.start_transaction():
            book.objects.insert_one({"_id": 1, "position": [10.0, 20.0]}, session=session)
        assert book.objects.count_documents({}) == 1
        assert book.command("collStats", "objects")["count"] == 1
        with book.objects.watch() as changes:
            book.objects.update_one({"_id": 1}, {"$set": {"seen": datetime(2016, 9, 25, tzinfo=UTC)}})
            assert changes.next()["documentKey"] == {"_id": 1}

    def test_administrator_may_use_every_database(self, server):
        with MongoClient(server.admin_uri) as client:
            client.other.objects.insert_one({"_id": 1})
            client.drop_database("other")

    def test_secrets_stay_private(self, embedded, server):
        assert embedded.folder.stat().st_mode & 0o777 == 0o700
        modes = {name: (embedded.folder / name).stat().st_mode & 0o777 for name in ("keyfile", "secret.json")}
        assert modes == {"keyfile": 0o400, "secret.json": 0o600}
        password = server.uri.split(":")[2].split("@")[0]
        assert len(password) > 30
        assert password not in repr(server)
        assert password not in " ".join(psutil.Process(server.pid).cmdline())

    def test_listens_on_loopback_only(self, server):
        connections = psutil.Process(server.pid).net_connections("all")
        listening = [c.laddr for c in connections if c.status == psutil.CONN_LISTEN]
        assert listening == [("127.0.0.1", server.port)]

    def test_ctrl_c_does_not_reach_it(self, server):
        assert os.getsid(server.pid) != os.getsid(0)

    def test_step_down_is_not_noticed(self, book, server):
        with MongoClient(server.admin_uri) as admin:
            admin.admin.command("replSetStepDown", 1, force=True)
        book.objects.insert_one({"_id": "written while there was no primary"})
        assert book.objects.count_documents({}) == 1


class TestSharing:
    def test_two_users_at_once(self, folder):
        with User(folder) as first, User(folder) as second:
            pid = first.server_pid()
            assert second.server_pid() == pid
            first.leave()
            assert pid_in(folder) == pid
            second.leave()
            assert pid_in(folder) is None
            assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def test_killed_starter(self, folder):
        with User(folder) as starter:
            pid = starter.server_pid()
            starter.be_killed()
        with EmbeddedMongod(folder) as server:
            assert server.pid == pid
        assert pid_in(folder) is None

    def test_stop_twice_and_ensure_after_it(self, embedded, server):
        share = EmbeddedMongod(embedded.folder, database="book")
        assert share.start() == server
        share.stop()
        share.stop()
        with pytest.raises(ServiceUnavailable, match="not in use by this process"):
            share.ensure()
        assert embedded.ensure() == server

    def test_forked_child_has_no_share(self, embedded, server):
        program = """
import os, sys
from pathlib import Path
from obsarchive.database.embedded_mongod import EmbeddedMongod
mongod = EmbeddedMongod(Path(sys.argv[1]), database="book")
mongod.start()
child = os.fork()
if child == 0:
    mongod.stop()
    os._exit(0)
os.waitpid(child, 0)
print(mongod.ensure().pid, flush=True)
mongod.stop()
"""
        with User(embedded.folder, program) as user:
            assert user.server_pid() == server.pid
            user.leave()


class TestFaults:
    def test_killed_server_is_started_again_with_its_data(self, folder):
        with EmbeddedMongod(folder) as server, MongoClient(server.uri) as client:
            client.archiver.objects.insert_one({"_id": "kept"})
            embedded = EmbeddedMongod(folder)
            embedded.start()
            os.kill(server.pid, signal.SIGKILL)
            again = wait_for_another(embedded, server.pid)
            assert (again.uri, again.port) == (server.uri, server.port)
            assert client.archiver.objects.count_documents({"_id": "kept"}) == 1  # the old client finds it
            embedded.stop()

    def test_port_taken_meanwhile(self, folder):
        with EmbeddedMongod(folder) as server, MongoClient(server.uri) as client:
            client.archiver.objects.insert_one({"_id": "kept"})
        with somebody_else_on(server.port), EmbeddedMongod(folder) as moved:
            assert moved.port != server.port
            with MongoClient(moved.uri) as client:
                assert client.archiver.objects.count_documents({}) == 1
                client.archiver.objects.insert_one({"_id": "still writable"})

    @pytest.mark.parametrize("step", ["set_up_replica_set", "set_user"])
    def test_starter_killed_during_the_first_set_up(self, folder, step):
        killed_in_step = f"""
import os, sys
from pathlib import Path
from obsarchive.database import embedded_mongod as mongod
done = mongod.{step}
def killed(*args, **kwargs):
    done(*args, **kwargs)
    os.kill(os.getpid(), 9)
mongod.{step} = killed
mongod.EmbeddedMongod(Path(sys.argv[1])).start()
"""
        with User(folder, killed_in_step) as user:
            assert user.process.wait(timeout=60) == -signal.SIGKILL
        assert pid_in(folder) is not None
        assert_usable(folder)

    def test_lost_passwords_and_log(self, folder):
        with EmbeddedMongod(folder) as server:
            (folder / "secret.json").unlink()
            (folder / "mongod.json").write_text("not JSON")
            with EmbeddedMongod(folder) as renewed:
                assert renewed.uri != server.uri
                assert_usable(folder)

    def test_failed_set_up_leaves_no_server_behind(self, folder, monkeypatch):
        def refused(*args, **kwargs):
            raise OperationFailure("not today")

        monkeypatch.setattr(embedded_mongod, "set_user", refused)
        with pytest.raises(ServiceUnavailable, match=f"{folder} cannot be used: not today"):
            EmbeddedMongod(folder).start()
        assert pid_in(folder) is None


class TestRefusals:
    def test_unusable_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ServiceUnavailable, match=str(tmp_path / "file" / "db")) as refusal:
            EmbeddedMongod(tmp_path / "file" / "db").start()
        assert refusal.value.exit_code == 3

    def test_network_file_system(self, folder, monkeypatch):
        mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=folder, fstype="nfs4")]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
        with pytest.raises(ServiceUnavailable, match=r"nfs4 is a network file system; set database\.folder"):
            EmbeddedMongod(folder).start()
        assert not folder.exists()

    def test_missing_library(self, folder):
        binary = folder.parent / "mongod"
        binary.write_text("#!/bin/sh\necho error while loading shared libraries: libcurl.so.4 >&2; exit 127\n")
        binary.chmod(0o755)
        with pytest.raises(ServiceUnavailable, match=r"exit code 127.*libcurl\.so\.4.*apt install libcurl4"):
            EmbeddedMongod(folder, binary=binary).start()

    def test_reason_from_the_log(self, folder):
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "storage.bson").write_text("not BSON")
        with pytest.raises(
            ServiceUnavailable, match=r"ended with exit code \d+: Unable to read the storage engine metadata file"
        ):
            EmbeddedMongod(folder).start()


class TestFindMongod:
    def test_order(self, tmp_path, monkeypatch):
        configured, on_path = tmp_path / "configured", tmp_path / "mongod"
        for program in (configured, on_path):
            program.touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_mongod(configured) == configured
        assert find_mongod(None) == on_path
        on_path.unlink()
        assert find_mongod(None).parts[-4:] == ("fiftyone", "db", "bin", "mongod")

    def test_nowhere(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ServiceUnavailable, match="no mongod found; install one with `pip install"):
            find_mongod(None)

    def test_configured_is_no_program(self, tmp_path):
        with pytest.raises(ServiceUnavailable, match=rf"database\.mongod: {tmp_path} is not a program"):
            find_mongod(tmp_path)


def wait_for_another(embedded, old_pid):
    """Call ``ensure`` until the death of the server is noticed: killing takes a moment."""
    deadline = time.monotonic() + 30
    while (server := embedded.ensure()).pid == old_pid:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return server


def assert_usable(folder):
    with EmbeddedMongod(folder) as server, MongoClient(server.uri) as client:
        client.archiver.objects.insert_one({})


@contextlib.contextmanager
def somebody_else_on(port):
    """Listen on a port and hang up on everybody."""

    def hang_up():
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=hang_up)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
