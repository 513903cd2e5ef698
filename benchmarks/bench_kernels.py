"""Time our kernels against named peers: same input, same run in turns, one thread.

``python benchmarks/bench_kernels.py [--alone] [--quick] [word ...]`` runs the cases whose name contains one of the
words and prints what was measured, an object of JSON for each; `bench_all` makes the table of it.

A new case is a decorated function that prepares the input and returns a `Contest`::

    @case("master dark", peer="ccdproc.combine", goal=15)
    def master_dark() -> Contest: ...
"""

import os

# the libraries read these when they are imported
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"

import argparse
import json
import math
import sys

import contest
import kernels_of_catalogues
import kernels_of_pipelines
import numpy as np
from contest import Contest, case, size
from scipy import optimize

from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.combining import combine
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.model import Optics, drizzled_response
from obsarchive.science.psf.strehl import measure_strehl
from obsarchive.science.registration.frame_ranking import measure
from obsarchive.simulation.emccd import Detector
from obsarchive.simulation.scenes import Instrument, SimulatedObservation, ideal_stack

__all__ = ["kernels_of_catalogues", "kernels_of_pipelines"]


def side() -> int:
    return size(1024, 96)


@case("master dark, 50 frames 1024x1024", peer="ccdproc.combine", goal=15)
def master_dark() -> Contest:
    import ccdproc
    from astropy.nddata import CCDData

    cube = np.random.default_rng(1).normal(1000, 8, (50, side(), side())).round().astype(np.uint16)
    frames = [CCDData(frame, unit="adu") for frame in cube]
    return Contest(
        ours=lambda: combine(lambda y0, y1: cube[:, y0:y1], len(cube), (side(), side())).image,
        peer=lambda: ccdproc.combine(frames, method="average", sigma_clip=True, dtype=np.float32).data,
        difference=lambda a, b: f"{np.std(a - b):.4f} DN rms",
        agrees=lambda a, b: np.std(a - b) < 0.1,
    )


@case("master dark, 1000 frames 1024x1024, read in bands")
def long_master_dark() -> Contest:
    rng, n = np.random.default_rng(1), size(1000, 20)

    def read_rows(y0: int, y1: int) -> np.ndarray:
        return rng.integers(900, 1100, (n, y1 - y0, side()), dtype=np.uint16)

    return Contest(ours=lambda: combine(read_rows, n, (side(), side())).image)


@case("Strehl ratio with core and halo, 512x512", peer="fmin over a loop of pixels, core and halo only", goal=50)
def strehl() -> Contest:
    optics = Optics(2.1, 0.5, 763.0, 153.0)
    seen = SimulatedObservation(n_frames=10, instrument=Instrument(detector=Detector(shape=(256, 256))))
    image = ideal_stack(seen) * 1e6
    pixel_arcsec, side = seen.instrument.pixel_arcsec / 2, 40
    middle = image.shape[0] // 2
    box = image[middle - side : middle + side, middle - side : middle + side]
    radii = np.hypot(*(np.indices(box.shape) - side))

    def misfit(parameters: np.ndarray) -> float:
        core, core_px, halo, halo_px = parameters
        total = 0.0
        for r, value in zip(radii.flat, box.flat, strict=True):
            model = core * math.exp(-((r / core_px) ** 2) / 2) + halo / (1 + (r / halo_px) ** 2) ** 2
            total += (value - model) ** 2
        return total

    start = [box.max(), 2.0, box.max() / 20, 12.0]
    return Contest(
        ours=lambda: measure_strehl(image, optics, pixel_arcsec, drizzled_response()).core_arcsec,
        peer=lambda: 2.3548 * optimize.fmin(misfit, start, disp=False)[1] * pixel_arcsec,
        difference=lambda a, b: f"core FWHM {1e3 * abs(a - b):.0f} mas apart",
        agrees=lambda a, b: abs(a - b) < 0.02,
    )


@case("x2 drizzle, pixfrac 0.45, 20 frames 1024x1024", peer="STScI drizzle, turbo", goal=5)
def drizzle_x2() -> Contest:
    from drizzle import resample

    rng, shape = np.random.default_rng(2), (side(), side())
    frames = rng.normal(1000, 30, (20, *shape)).astype(np.float32)
    shifts = rng.normal(0, 3, (20, 2))
    y, x = np.indices(shape, dtype=float)
    maps = [np.stack([(x + dx + 0.5) * 2 - 0.5, (y + dy + 0.5) * 2 - 0.5], axis=-1) for dy, dx in shifts]

    def ours() -> np.ndarray:
        stack = Drizzle(shape)
        for frame, (dy, dx) in zip(frames, shifts, strict=True):
            stack.add(frame, dy, dx)
        return stack.surface_brightness()

    def turbo() -> np.ndarray:
        stack = resample.Drizzle(kernel="turbo", out_shape=(2 * side(), 2 * side()), disable_ctx=True)
        for frame, pixmap in zip(frames, maps, strict=True):
            stack.add_image(frame, 1.0, pixmap, pixel_scale_ratio=0.5, pixfrac=0.45)
        return stack.out_img

    inner = np.s_[32:-32, 32:-32]

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.nanmax(np.abs(a / b - 1)[inner]))

    return Contest(ours, turbo, lambda a, b: f"{apart(a, b):.1e} relative", lambda a, b: apart(a, b) < 1e-4)


@case("calibrate one frame 1024x1024 (dark, flat, bad pixels)")
def calibrate_frame() -> Contest:
    rng = np.random.default_rng(3)
    frame = rng.integers(500, 2000, (side(), side())).astype(np.uint16)
    calibration = Calibration.from_masters(rng.normal(500, 1, frame.shape), rng.normal(1, 0.02, frame.shape))
    out = np.empty(frame.shape, np.float32)
    return Contest(ours=lambda: calibration.apply(frame, out))


@case("measure the guide star in a 128x128 window")
def guide_star() -> Contest:
    y, x = np.indices((128, 128))
    star = 5000 * np.exp(-((y - 60.3) ** 2 + (x - 65.6) ** 2) / 2.4)
    halo = 300 * np.exp(-((y - 61) ** 2 + (x - 66) ** 2) / 300)
    window = np.random.default_rng(4).normal(star + halo, 10).astype(np.float32)
    return Contest(ours=lambda: measure(window, 1.1, 12.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of cases; all cases by default")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--quick", action="store_true", help="tiny inputs: only whether results agree is of interest")
    options = parser.parse_args()
    contest.quick = options.quick
    disagree = []
    for one in contest.CASES:
        if options.words and not any(word in one.name for word in options.words):
            continue
        try:
            found = contest.measured(one, options.alone)
        except (ImportError, AttributeError):
            if options.alone:
                continue  # an earlier commit, which does not have it
            raise
        sys.stdout.write(json.dumps({"name": one.name, **found}) + "\n")
        sys.stdout.flush()
        if not found.get("agrees", True):
            disagree.append(one.name)
    if disagree:
        raise SystemExit(f"results differ from those of the peer: {', '.join(disagree)}")


if __name__ == "__main__":
    main()
