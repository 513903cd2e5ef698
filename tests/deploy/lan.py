"""Machines: network namespaces behind one switch, whose only common ground beside the network is a folder.

Each has an address and a host name of its own; its cable can be pulled. This takes root and the program ``ip``: where
these are missing, tests fail, they are not skipped.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dask
import psutil

from tests.forked import forkserver

CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000
SUBNET = "10.86.10"
"""Nothing outside of these namespaces sees its addresses."""


class Machine:
    """A network namespace with an address; programs that are started on it end with the tests.

    Parameters
    ----------
    lan : str
        Name of the namespace that is the switch.
    name : str
        Host name.
    number : int
        Last part of the address.
    """

    def __init__(self, lan: str, name: str, number: int) -> None:
        self.lan, self.name, self.address = lan, name, f"{SUBNET}.{number}"
        self.space, self.port = f"{lan}-{name}", f"p{number}"
        self.processes: list[BaseProcess] = []

    def commands(self) -> list[str]:
        """Return the commands of ``ip`` that make it and lay its cable."""
        return [
            f"netns add {self.space}",
            f"-n {self.lan} link add {self.port} type veth peer name eth0 netns {self.space}",
            f"-n {self.lan} link set {self.port} master switch up",
            f"-n {self.space} address add {self.address}/24 dev eth0",
            f"-n {self.space} link set lo up",
            f"-n {self.space} link set eth0 up",
        ]

    @property
    def file(self) -> Path:
        """The namespace, as a file."""
        return Path("/run/netns") / self.space

    def enter(self) -> partial[None]:
        """Return the function by which a new process moves to this machine."""
        return partial(_move, self.file, self.name)

    def runs(self, pid: int) -> bool:
        """Whether a process runs on this machine."""
        return Path(f"/proc/{pid}/ns/net").stat().st_ino == self.file.stat().st_ino

    def pull(self) -> None:
        """Pull its cable."""
        _ip(f"-n {self.lan} link set {self.port} down")

    def plug(self) -> None:
        """Put its cable back."""
        _ip(f"-n {self.lan} link set {self.port} up")

    def start(self, module: str, words: Sequence[str], log: Path, dask_settings: Mapping[str, Any]) -> psutil.Process:
        """Run the ``main`` of a module as a process on this machine, with everything imported already."""
        arguments = (self.enter(), module, list(words), log, dict(dask_settings))
        process = forkserver().Process(target=_live, args=arguments, name="MainProcess")
        process.start()
        self.processes.append(process)
        return psutil.Process(process.pid)

    def run(self, *command: str | Path, log: Path, **environment: str) -> psutil.Popen:
        """Run a program on this machine, in the folder of its log."""
        # not by `ip netns exec`, which would hide what is mounted below /sys
        there = ["nsenter", f"--net={self.file}", "unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"']
        with log.open("a") as said:
            process = psutil.Popen(
                [*there, self.name, *map(str, command)],
                stdout=said,
                stderr=said,
                cwd=log.parent,
                env=os.environ | environment,
            )
        self.processes.append(process)  # type: ignore[arg-type]
        return process

    def stop(self) -> None:
        """Kill all that runs here."""
        pids = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True, check=True)
        for pid in map(int, pids.stdout.split()):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.join() if isinstance(process, BaseProcess) else process.wait()


@contextmanager
def machines(*names: str) -> Iterator[dict[str, Machine]]:
    """Build some machines and connect them."""
    lan = f"lan{os.getpid()}"
    built = {name: Machine(lan, name, number) for number, name in enumerate(names, 11)}
    commands = [f"netns add {lan}", f"-n {lan} link add switch type bridge", f"-n {lan} link set switch up"]
    commands += [command for machine in built.values() for command in machine.commands()]
    try:
        for command in commands:
            _ip(command)
        yield built
    finally:
        for machine in built.values():
            if machine.file.exists():
                machine.stop()
                _ip(f"netns del {machine.space}")
        if (Path("/run/netns") / lan).exists():
            _ip(f"netns del {lan}")


@contextmanager
def standing_at(machine: Machine) -> Iterator[None]:
    """Have this thread, and those that it starts, use the network of a machine."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    forkserver()  # what it forks later is at home
    _enter(machine.file)
    try:
        yield
    finally:
        _call("setns", home, CLONE_NEWNET)
        os.close(home)


def _ip(command: str) -> None:
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {command}: {done.stderr.strip()}: these tests need root and network namespaces")


def _enter(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    _call("setns", descriptor, CLONE_NEWNET)
    os.close(descriptor)


def _move(file: Path, name: str) -> None:
    _enter(file)
    _call("unshare", CLONE_NEWUTS)
    socket.sethostname(name)


def _live(first: partial[None], module: str, words: list[str], log: Path, dask_settings: dict[str, Any]) -> None:
    first()
    os.setsid()
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(said, stream)
    dask.config.set(dask_settings)
    sys.exit(import_module(module).main(words))


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
