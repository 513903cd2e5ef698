"""``obsarchive run``, which ``make run`` calls: a demo night, the daemon and the portal, until Ctrl-C."""

import logging
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from contextlib import suppress

import httpx

from obsarchive.accounts import users as accounts
from obsarchive.cli.console import configure, say
from obsarchive.database.connect import open_store
from obsarchive.errors import ServiceUnavailable
from obsarchive.names import is_night
from obsarchive.simulation import night as demo

log = logging.getLogger(__name__)

READY_S = 60.0
STOP_S = 90.0


def run(options: Namespace) -> int:
    """Write a demo night if there is no raw data, start daemon and portal, and wait."""
    config = configure(options)
    raw = config.paths.raw[0].path
    if not raw.is_dir() or not any(is_night(path.name) for path in raw.iterdir()):
        demo.write_night(raw)
        demo.write_catalog(config.paths.archive)
    stopping = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, frame: stopping.set())  # noqa: ARG005
    with open_store(config) as store:
        programs = [
            # Each gets Ctrl-C from us, once, and not from the terminal as well.
            subprocess.Popen([sys.executable, "-m", "obsarchive", *command], start_new_session=True)  # noqa: S603
            for command in (("daemon", str(config.source)), ("serve", str(config.source), "--no-link"))
        ]
        try:
            address = f"http://{config.server.host}:{config.server.port}/"
            _wait_for(address, programs[1], stopping)
            say(f"\n  The portal: {address}\n")
            if accounts.setup_needed(store.users):
                link = accounts.setup_link(config, store.users)
                say(f"  Set a password for the user admin (the link works once):\n  {link}\n")
            say("  Ctrl-C stops everything.\n\n")
            sys.stdout.flush()
            while not stopping.wait(1.0) and all(program.poll() is None for program in programs):
                pass
        finally:
            _stop(programs)
    codes = [program.returncode for program in programs]
    return 0 if stopping.is_set() else max((code for code in codes if code > 0), default=1)


def _wait_for(address: str, portal: subprocess.Popen, stopping: threading.Event) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and portal.poll() is None and not stopping.is_set():
        with suppress(httpx.TransportError):
            httpx.get(address, timeout=5, trust_env=False)  # our own address: no proxy is asked
            return
        stopping.wait(0.3)
    if not stopping.is_set():
        raise ServiceUnavailable(f"the portal does not answer at {address}; see its messages above")


def _stop(programs: list[subprocess.Popen]) -> None:
    for program in programs:
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
    for program in programs:
        try:
            program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("process %d does not stop: killed", program.pid)
            program.kill()
