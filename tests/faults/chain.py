"""A fast chain of pipelines whose steps do what a test orders: wait, die, hang, fail, kill their worker."""

import multiprocessing
import os
import signal
import time
from typing import Any

import numpy as np
import psutil

from obsarchive.errors import ArchiveError
from obsarchive.pipeline import Pipeline, Workspace, step
from pipelines.shared.calibrator import calibrator

ORDERS = "orders"
"""Folder beside that of temporary files; a file ``target.step`` in it holds the order for that step."""


class Sum(Pipeline):
    """The calibrated sum of all frames, and notes about it."""

    name = "sum"

    @step(makes=["{id}_sum.fits"], uses=["science", "calibration"])
    def add(self, work: Workspace) -> dict[str, Any]:
        """Add the frames."""
        with work.frames() as frames:
            used = calibrator(work, frames.shape, frames.sections)
            total = np.sum([used.calibration.apply(frame) for frame in frames], axis=0)
        obey(work)
        work.publish_fits("{id}_sum.fits", total, masters=used.masters)
        return {"level_adu": float(np.nanmean(total)), "frames": len(frames), "calibration": used.text}

    @step(makes=["notes/level.txt", "notes/frames.txt"], after=["add"])
    def note(self, work: Workspace) -> dict[str, Any]:
        """Write two numbers down."""
        results = work.results("add")
        work.publish("notes/level.txt", f"{results['level_adu']:.3f}\n".encode())
        obey(work)
        work.publish("notes/frames.txt", f"{results['frames']}\n".encode())
        return {}


def obey(work: Workspace) -> None:
    """Do what the test orders this step to do."""
    order = work.task.tmp.parent / ORDERS / f"{work.observation.document['name']}.{work.task.step}"
    match order.read_text() if order.exists() else "":
        case "hold":
            order.with_suffix(f"{order.suffix}.pid").write_text(str(os.getpid()))
            while order.exists():
                time.sleep(0.01)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill the worker":
            _worker().kill()
            time.sleep(60)
        case "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = os.fork()
            order.with_suffix(f"{order.suffix}.pid").write_text(str(child or os.getpid()))
            time.sleep(600)
        case "eat":
            eaten = []
            while True:
                eaten.append(b"x" * 20_000_000)
                time.sleep(0.01)
        case "fail":
            raise ArchiveError("failed as ordered")


def _worker() -> psutil.Process:
    """Return the process of the Dask worker, which had this one forked."""
    worker = multiprocessing.parent_process()
    assert worker is not None
    return psutil.Process(worker.pid)
