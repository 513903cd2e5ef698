"""Rooms: mount namespaces in which daemons and workers run, with disks that are full, read-only or gone.

In a room, permissions of files hold for root as well. Where that is not possible, tests fail: they are not skipped.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from tests.forked import forkserver

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
PR_CAPBSET_DROP = 24
CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True)
class Room:
    """A mount namespace, and the Dask cluster that runs in it."""

    pid: int
    scheduler: str

    def enter(self) -> partial[None]:
        """Return the function by which a new process enters the room."""
        return partial(_enter, self.pid)

    def inside(self, path: Path) -> Path:
        """Return a path as it is seen in the room."""
        return Path(f"/proc/{self.pid}/root") / path.relative_to("/")

    def run(self, *command: str | Path) -> None:
        """Run a program in the room, with all rights."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        subprocess.run(["nsenter", f"--target={self.pid}", *user, "--mount", *command], check=True)

    def mount(self, folder: Path, size: str) -> None:
        """Mount an empty disk of some size at a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self.run("mount", "-t", "tmpfs", "-o", f"size={size}", "disk", folder)

    def remount(self, folder: Path, option: str) -> None:
        """Change an option of a disk: ``ro``, ``rw``, ``size=…``."""
        self.run("mount", "-o", f"remount,{option}", folder)

    def bind(self, what: Path, place: Path) -> None:
        """Have a file or folder seen at another place."""
        self.run("mount", "--bind", what, place)

    def unmount(self, place: Path) -> None:
        """Take a disk away, whoever uses it."""
        self.run("umount", "--lazy", place)


@contextmanager
def open_room() -> Iterator[Room]:
    """Run a Dask cluster in a mount namespace of its own."""
    context = forkserver()
    here, there = context.Pipe()
    process = context.Process(target=_live, args=(there, os.getuid(), os.getgid()))
    process.start()
    there.close()
    try:
        assert process.pid is not None
        yield Room(process.pid, here.recv())
    except EOFError:
        raise OSError("no mount namespace of our own: these tests need root, or user namespaces") from None
    finally:
        here.close()
        process.join()


def _live(connection: Connection, uid: int, gid: int) -> None:
    from tests.services import _run_cluster

    if uid == 0:
        _call("unshare", CLONE_NEWNS)
    else:
        _call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    _obey_permissions()
    _run_cluster(connection)


def _enter(pid: int) -> None:
    kinds = {"mnt": CLONE_NEWNS} if os.geteuid() == 0 else {"user": CLONE_NEWUSER, "mnt": CLONE_NEWNS}
    for kind, flag in kinds.items():
        descriptor = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        _call("setns", descriptor, flag)
        os.close(descriptor)
    _obey_permissions()


def _obey_permissions() -> None:
    """Give up the right of root to read and write everything, for programs that are started later as well."""
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        _call("prctl", PR_CAPBSET_DROP, right, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    _call("capget", header, sets)
    kept = ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH) & 0xFFFFFFFF
    for place in range(3):
        sets[place] &= kept
    _call("capset", header, sets)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
