"""Imported once by the forkserver of a machine: what workers and steps need is there before they are forked."""

import gc
import importlib
import pkgutil

import matplotlib.axes
import matplotlib.collections
import matplotlib.dates
import matplotlib.figure  # noqa: F401 - what plots need
import numpy as np

import obsarchive.execution.cluster  # noqa: F401 - what a worker needs
import pipelines
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.combining import combine
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import remove_spikes
from obsarchive.science.photometry.source_detection import detect
from obsarchive.science.psf.companion_detection import snr_map
from obsarchive.science.registration.frame_ranking import measure

_SIDE = 32


def _compile() -> None:
    """Call every compiled function once, with the types that steps use."""
    yy, xx = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2
    star = (1000 * np.exp(-(xx**2 + yy**2) / 8)).astype(np.float32)
    counts = np.stack([star.astype(np.uint16)] * 3)
    combine(lambda y0, y1: counts[:, y0:y1], 3, star.shape)
    flat = np.ones_like(star)
    frame = Calibration.from_masters(flat, flat).apply(star)
    stack = Drizzle(frame.shape)
    stack.add(frame, 0.3, -0.2)
    stack.image()
    measure(frame, 1.0, 2.0)
    snr_map(frame[1:, 1:], 3.0)
    detect(frame)
    remove_spikes(frame, 10.0)


for _found in pkgutil.iter_modules(pipelines.__path__):
    importlib.import_module(f"pipelines.{_found.name}")
_compile()
# The collector writes to each object that it looks at: in forked processes it would copy what they share.
gc.collect()
gc.freeze()
