"""``obsarchive simulate``: a demo night; ``obsarchive run``: the same, the daemon and the portal, until Ctrl-C."""

import logging
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from obsarchive.accounts import users as accounts
from obsarchive.cli.console import configure, say
from obsarchive.config.model import Config
from obsarchive.database.connect import open_store
from obsarchive.errors import ConfigError, ServiceUnavailable
from obsarchive.io.atomic import atomic_write
from obsarchive.names import is_night
from obsarchive.simulation import field
from obsarchive.simulation import night as demo

log = logging.getLogger(__name__)

READY_S = 60.0
"""After this time without an answer of the portal a line says that it still starts [s]."""
STOP_S = 90.0
SURVEY = """\
project:
  name: demo survey
  description: made-up photometry of 150 sources; every tenth has an event, every tenth pulsates
  obs_names: [DEMO]
catalog:
  test_size: 150
observatories:
  DEMO: {event_fraction: 0.1, periodic_fraction: 0.1, filters: [g, r]}
analysis: {period_search: lomb-scargle, period_range: [0.5, 50.0]}
"""


def simulate(options: Namespace) -> int:
    """Write a simulated night of raw files."""
    config = configure(options)
    if not is_night(options.night):
        raise ConfigError(f"--night {options.night}: expected a night written YYYYMMDD")
    night = demo.NightPlan(night=options.night)
    folder = demo.write_night(config.paths.raw[0].path, night)
    demo.write_catalog(config.paths.archive, night)
    say(f"{sum(1 for _ in folder.iterdir())} files in {folder}\n")
    return 0


def run(options: Namespace) -> int:
    """Write a demo night if there is no raw data, start daemon and portal, and wait."""
    config = configure(options, import_classes=True)
    raw = config.paths.raw[0].path
    nights = [path for path in raw.iterdir() if is_night(path.name)] if raw.is_dir() else []
    if not nights:
        demo.write_catalog(config.paths.archive)
        demo.write_night(raw)
    is_demo = all(demo.truth_of(night).is_file() for night in nights)
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
            if is_demo and not _survey(config).exists():
                threading.Thread(target=_add_time_series, args=(config, stopping)).start()
            while not stopping.wait(1.0) and all(program.poll() is None for program in programs):
                pass
        finally:
            was_asked = stopping.is_set()
            stopping.set()
            _stop(programs)
    codes = [program.returncode for program in programs]
    return 0 if was_asked else max((code for code in codes if code > 0), default=1)


def _add_time_series(config: Config, stopping: threading.Event) -> None:
    """Write a dataset and a survey project beside the raw nights, and make light curves of them."""
    survey = _survey(config)
    datasets = field.write_event(survey.parent / "datasets")
    atomic_write(survey, SURVEY.encode())
    for command in (*(("reduce", str(path)) for path in datasets), ("surveys", "run", str(survey))):
        if not stopping.is_set():
            _run_until([*command, "--config", str(config.source)], stopping)


def _survey(config: Config) -> Path:
    return config.paths.raw[0].path.parent / "demo_survey.yaml"


def _run_until(command: Sequence[str], stopping: threading.Event) -> None:
    with subprocess.Popen([sys.executable, "-m", "obsarchive", *command], start_new_session=True) as program:  # noqa: S603
        while program.poll() is None and not stopping.wait(0.3):
            pass
        if program.poll() is None:
            program.terminate()


def _wait_for(address: str, portal: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    patience = time.monotonic() + READY_S
    while portal.poll() is None and not stopping.is_set():
        with suppress(httpx.TransportError):
            httpx.get(address, timeout=5, trust_env=False)  # our own address: no proxy is asked
            return
        if time.monotonic() > patience:
            log.warning("the portal does not answer at %s yet: it is still starting", address)
            patience += READY_S
        stopping.wait(0.3)
    if not stopping.is_set():
        raise ServiceUnavailable(f"the portal at {address} has ended; see its messages above")


def _stop(programs: list[subprocess.Popen[bytes]]) -> None:
    for program in programs:
        if program.poll() is None:
            program.send_signal(signal.SIGTERM)
    for program in programs:
        try:
            program.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("process %d does not stop: killed", program.pid)
            program.kill()
