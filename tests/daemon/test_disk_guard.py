"""The guard of disk space, seen from outside: the log, the status file, the command and the portal's database."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.daemon.conftest import PROJECT, Site, wait_for
from tests.forked import COMMANDS, Forked


def test_the_guard_stays_visible_until_there_is_space(
    new_site: Callable[[Path | None], Site], services: dict[str, Any]
) -> None:
    site = new_site(None)
    site.change(**services)
    site.change(daemon={"min_free_gb": 1e9, "loop_interval_s": 1.5})
    daemon, seen = site.start(), set[str]()
    status = site.folder / "logs" / "status.json"
    try:
        wait_for(lambda: status.exists() and json.loads(status.read_text())["state"] == "no space")
        until = time.monotonic() + 4.0  # longer than two cycles
        while time.monotonic() < until:
            seen.add(json.loads(status.read_text())["state"])
            time.sleep(0.05)
        assert seen == {"no space"}
        assert "daemon.min_free_gb wants 1e+09" in json.loads(status.read_text())["space"]
        with site.store() as store:
            assert "daemon.min_free_gb" in store.jobs.daemon()["space"]
        said, _ = Forked(COMMANDS, ["status", str(site.config_file)], PROJECT).communicate(timeout=60)
        assert "no space: " in said
        assert "-> free space" in said
        site.change(daemon={"min_free_gb": 0})
        wait_for(lambda: json.loads(status.read_text())["state"] == "idle")
        assert json.loads(status.read_text())["space"] == ""
    finally:
        os.kill(daemon.pid, signal.SIGTERM)
        log, _ = daemon.communicate(timeout=60)
    assert log.count("no new work: ") == 1
