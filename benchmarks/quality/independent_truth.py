"""What is true of a night of the instrument of truth, and where its products are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from benchmarks.quality.instrument import Truth
from benchmarks.quality.instrument.exposure import highest
from benchmarks.quality.instrument.night import Plan
from obsarchive.core.archive_paths import Layout
from obsarchive.io import fits_products
from obsarchive.science.imaging.drizzle import Drizzle

PIXEL_ARCSEC = 0.0347
FINE_ARCSEC = PIXEL_ARCSEC / 2
SCALE = 2
"""Pixels of a stack per pixel of a frame."""
APERTURE_ARCSEC = 2.5
"""Within which a published Strehl ratio counts the light."""
COMPANION, COMPANION_MAG = (0.9 * np.cos(2.0), 0.9 * np.sin(2.0)), 7.0
CLUSTER = ((0.0, 0.0, 0.0), (2.1, 1.4, 1.0), (-2.6, 0.9, 1.5), (1.0, -2.9, 1.2), (-1.7, -2.4, 2.0))
"""Up and right of the origin [arcsec], and magnitudes."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The truth of a visit that figures are compared with.

    Parameters
    ----------
    shifts_px, peaks_px, fits_px : ndarray (n, 2)
        Image motion (y, x) of each frame, where its image smoothed by half of lambda over D is highest, and where it
        fits the mean of all images best, see `best_fits`; the last of the faint pair alone.
    strehl, strehl_in_aperture : float
        Of all frames on their highest points, of all light and of that in the aperture.
    widths_arcsec : ndarray (n,)
        FWHM of each frame of a seeing file.
    images, ideal : ndarray (n, size, size), ndarray (size, size)
        Noise-free images of the guide star of flux 1, and that of a flat wavefront; of stars behind adaptive optics.
    places_px : ndarray (n, 2)
        Where the wavefront of the guide star points in each frame (y, x).
    light : ndarray (n,)
        Factor on the light of each frame.
    field : ndarray (n, ny, nx)
        Frames without noise; of the field of stars alone.
    """

    shifts_px: np.ndarray
    peaks_px: np.ndarray
    fits_px: np.ndarray
    strehl: float
    strehl_in_aperture: float
    widths_arcsec: np.ndarray
    images: np.ndarray
    ideal: np.ndarray
    places_px: np.ndarray
    light: np.ndarray
    field: np.ndarray

    def stack_strehl(self, frames: np.ndarray, found_px: np.ndarray, pixfrac: float) -> float:
        """Return the Strehl ratio in the aperture of the stack that was made.

        Parameters
        ----------
        frames : ndarray (k,) of int
            Frames of the stack.
        found_px : ndarray (k, 2)
            Where the star was found in each (y, x), which are put onto each other.
        pixfrac : float
            Side of the drops [pixel].
        """
        size = len(self.ideal)
        frequency = fft.fftfreq(size)
        ramps = np.exp(-2j * np.pi * frequency * (self.places_px[frames] - found_px)[:, :, np.newaxis])
        ramps[:, 0] *= self.light[frames, np.newaxis]
        spectra = (fft.fft2(self.images[i]) * np.outer(*ramp) for i, ramp in zip(frames, ramps, strict=True))
        drop = np.sinc(pixfrac * frequency) * np.sinc(frequency / SCALE)
        distance = np.hypot(*(np.indices(self.ideal.shape) - size // 2)) * PIXEL_ARCSEC
        peaks = []
        for spectrum in (sum(spectra), fft.fft2(self.ideal)):
            image = fft.ifft2(spectrum * np.outer(drop, drop)).real
            peaks.append(highest(image)[0] / image[distance < APERTURE_ARCSEC].sum())
        return float(peaks[0] / peaks[1])


def look(name: str, truth: Truth) -> Seen:
    """Keep what is compared."""
    is_seeing, is_star = name.startswith("seeing"), not name.startswith(("seeing", "24_"))
    numbers = range(truth.n_frames)
    none = np.empty(0)
    return Seen(
        truth.shifts_px,
        truth.shifts_px if is_seeing else truth.shifts_px + truth.peaks_px,
        truth.shifts_px + _fits(truth) if "_pair_" in name else none,
        *(np.nan if is_seeing else truth.stack_strehl(1.0, True, radius) for radius in (np.inf, APERTURE_ARCSEC)),
        np.array([full_width(truth.psf(i)) for i in numbers]) * PIXEL_ARCSEC if is_seeing else none,
        np.array([truth.psf(i) for i in numbers], np.float32) if is_star else none,
        truth.ideal_psf() if is_star else none,
        truth.positions_px[0] if is_star else none,
        truth.light,
        np.array([truth.noiseless(i) for i in numbers], np.float32) if "_cluster_" in name else none,
    )


def _fits(truth: Truth) -> np.ndarray:
    images = np.array([truth.psf(i) for i in range(truth.n_frames)])
    return best_fits(truth.sky.stars[0].electrons * images, truth.sky.background_e)


def best_fits(images: np.ndarray, background: float) -> np.ndarray:
    """Find where images without noise fit their own mean best: which shift their photons make likeliest.

    Parameters
    ----------
    images : ndarray (n, size, size)
        Expected photo-electrons.
    background : float
        That is added to all [electron/pixel].

    Returns
    -------
    ndarray (n, 2)
        Places (y, x) from the middle pixel [pixel].
    """
    spectra, frequency = fft.fft2(images), fft.fftfreq(images.shape[-1])
    found = np.zeros((len(images), 2))
    for _ in range(6):
        ramps = np.exp(2j * np.pi * frequency * found[:, :, np.newaxis])
        mean = fft.ifft2(np.mean(spectra * ramps[:, 0, :, np.newaxis] * ramps[:, 1, np.newaxis], axis=0)).real
        # of photons, the log likelihood of a shift is the sum of the logarithms of what is expected where they are
        logarithm = fft.fft2(np.log(np.maximum(mean, 0) + background))
        likelihood = fft.fftshift(fft.ifft2(spectra * logarithm.conj()).real, axes=(1, 2))
        found = np.array([highest(each - each.min())[1:] for each in likelihood])
    return found


def full_width(image: np.ndarray) -> float:
    """Return the FWHM of a noise-free image: the diameter of the area above half of the peak [pixel]."""
    return float(2 * np.sqrt(np.sum(image > highest(image)[0] / 2) / np.pi))


@dataclass(frozen=True)
class Night:
    """A reduced night with its truth, by target; seeing files in the order of time."""

    plan: Plan
    layout: Layout
    seen: dict[str, Seen]
    seeing: list[Seen]

    def product(self, target: str, name: str) -> Path:
        """Path of a product, ``pipeline/product``, of a target."""
        (folder,) = [p for p in self.layout.night(self.plan.date).iterdir() if f"_{target}_VIC_" in p.name]
        return folder / name.format(id=folder.name)

    def results(self, target: str, manifest: str) -> dict[str, Any]:
        return json.loads(self.product(target, manifest).read_text())["results"]

    def image(self, target: str, name: str) -> tuple[np.ndarray, tuple[float, float]]:
        """Pixels of a product and the place of its guide star."""
        image, header = fits_products.read_fits(self.product(target, name))
        return image, (header.get("GUIDEY", 1) - 1, header.get("GUIDEX", 1) - 1)

    def seeing_files(self) -> list[dict[str, Any]]:
        """What the night says of its seeing files, in the order of time."""
        manifest = self.layout.night(self.plan.date) / "summary" / ".measure.json"
        frames: list[dict[str, Any]] = json.loads(manifest.read_text())["results"]["frames"]
        return frames

    def frames(self, target: str, name: str) -> dict[str, np.ndarray]:
        """Columns of numbers of a table of frames, of the frames that were kept."""
        lines = self.product(target, name).read_text().splitlines()
        names = [line for line in lines if line.startswith("#")][-1].lstrip("# ").split()
        rows = [line.split() for line in lines if not line.startswith("#")]
        kept = [row for row in rows if row[names.index("left_out")] == "-"]
        columns = zip(names, zip(*kept, strict=True), strict=True)
        return {name: np.array(values, float) for name, values in columns if name != "left_out"}

    def noise_free_stack(self, target: str) -> np.ndarray:
        """Return the stack of frames without noise, put together as the archive did."""
        table = self.frames(target, "bright_star/frames.txt")
        places = np.stack([table["y"], table["x"]], axis=1)
        frames = self.seen[target].field
        stack = Drizzle(frames.shape[1:], SCALE, self.results(target, "bright_star/.reduce.json")["pixfrac"])
        for number, shift in zip(table["frame"].astype(int), np.median(places, axis=0) - places, strict=True):
            stack.add(frames[number], *shift)
        return stack.image()
