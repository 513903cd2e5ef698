"""Kernels of registration, high contrast and deconvolution, and their peers."""

import itertools
from collections.abc import Iterator

import numpy as np
from contest import Contest, case, size
from scipy import ndimage, signal, stats

from obsarchive.science.imaging import deconvolution
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf import contrast
from obsarchive.science.psf.companion_detection import aperture_flux
from obsarchive.science.psf.subtraction import References, best_correlated, radii, subtraction_mask
from obsarchive.science.registration.alignment import align
from obsarchive.science.registration.subpixel_peaks import highest_point
from obsarchive.simulation import scenes
from obsarchive.simulation.emccd import Detector
from obsarchive.simulation.scenes import Instrument, Scene, SimulatedObservation, Star

STAMP, WINDOW = 201, 128
FWHM_PX = 5.0
TOP = 20


@case("faint star: calibrate, register, shift, add, 12 frames 1024x1024", peer="reference recipe", goal=15)
def faint_star() -> Contest:
    """The recipe: clipped background, Gaussian of 5 pixels, chi2_shift on 256 pixels, shift by phases in Fourier space.

    The error is that of the shifts along an axis, about their median, against the truth.
    """
    import image_registration
    from image_registration.fft_tools import shift2d

    n, side = 12, size(1024, 256)
    seen = SimulatedObservation(
        Scene((Star(),), zero_flux_e=2e4), n, Instrument(detector=Detector(shape=(side, side), seed=2)), seed=5
    )
    raw = list(seen.frames())
    dark, flat = seen.truth.dark_adu.astype(np.float32), seen.truth.flat.astype(np.float32)
    calibration = Calibration.from_masters(dark, flat)
    middle = side // 2
    near, wide = (np.s_[middle - half : middle + half, middle - half : middle + half] for half in (WINDOW // 2, 128))

    def ours() -> np.ndarray:
        frames = [calibration.apply(frame) for frame in raw]
        shifts = align(np.stack([frame[near] for frame in frames])).shifts
        stack = Drizzle((side, side), 2, 0.6)
        for frame, (dy, dx) in zip(frames, shifts, strict=True):
            stack.add(frame, dy, dx)
        stack.image()
        return shifts

    def recipe() -> np.ndarray:
        shifts, template, total = [], None, np.zeros((side, side))
        for frame in raw:
            image = (frame.astype(float) - dark) / flat
            for _ in range(3):
                image -= np.median(stats.sigmaclip(image, 3, 3)[0])
            smooth = ndimage.gaussian_filter(image, 5)[wide]
            template = smooth if template is None else template
            dx, dy, *_ = image_registration.chi2_shift(template, smooth, upsample_factor="auto")
            total += shift2d(image, -dx, -dy)
            shifts.append((-dy, -dx))
        return np.array(shifts)

    cores = np.array([highest_point(ndimage.gaussian_filter(seen.noiseless(i), 1)[wide])[:2] for i in range(n)])

    def error(shifts: np.ndarray) -> float:
        difference = shifts + cores
        return float(np.sqrt(np.mean((difference - np.median(difference, axis=0)) ** 2)))

    return Contest(
        ours, recipe, lambda a, b: f"errors {error(a):.2f} and {error(b):.2f} px rms", lambda a, b: error(a) < error(b)
    )


def library(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A star and others, stamps with common speckles."""
    rng = np.random.default_rng(3)
    radius = radii(STAMP)
    speckles = np.array([ndimage.gaussian_filter(rng.normal(0, 1, (STAMP, STAMP)), 2) for _ in range(30)])
    speckles *= 4e-3 * np.exp(-radius / 30) / (1 + radius)
    core = np.exp(-4 * np.log(2) * (radius / FWHM_PX) ** 2) / 40 + 1e-3 / (1 + (radius / 15) ** 2) ** 2
    weights = rng.normal(0, 1, (n + 1, len(speckles))).astype(np.float32)
    stamps = np.tensordot(weights, speckles.astype(np.float32), 1) + core.astype(np.float32)
    stamps += rng.normal(0, 2e-6, stamps.shape).astype(np.float32)
    return stamps[0], stamps[1:]


@case("rank 2000 references 201x201 by likeness", peer="scipy.stats.pearsonr in a loop", goal=20)
def ranking() -> Contest:
    star, stamps = library(size(2000, 60))
    mask = subtraction_mask(star, FWHM_PX)

    def loop() -> np.ndarray:
        wanted = star[mask]
        return np.argsort([-stats.pearsonr(stamp[mask], wanted)[0] for stamp in stamps])[:TOP]

    return Contest(
        lambda: best_correlated(star, stamps, mask, TOP),
        loop,
        lambda a, b: f"{len(set(a) & set(b))} of {TOP} the same",
        lambda a, b: set(a) == set(b),
    )


def klip(n: int, n_components: int) -> Contest:
    from vip_hci.psfsub.svd import svd_wrapper

    star, stamps = library(size(n, 20))
    n_components = size(n_components, 5)
    mask = subtraction_mask(star, FWHM_PX)

    def eigen() -> np.ndarray:
        matrix = stamps[:, mask] - stamps[:, mask].mean(axis=1, keepdims=True)
        vector = star[mask] - star[mask].mean()
        basis = svd_wrapper(matrix, "eigen", n_components, verbose=False)
        return vector - (basis @ vector) @ basis

    return Contest(
        lambda: References(stamps, mask).components().subtract(star, [n_components])[0][mask],
        eigen,
        lambda a, b: f"{np.std(a - b) / np.std(b):.0e} of the residual",
        lambda a, b: np.std(a - b) < 0.02 * np.std(b),
    )


@case("KLIP, 50 references, 10 components", peer="vip_hci eigen", goal=20)
def klip_50() -> Contest:
    return klip(50, 10)


@case("KLIP, 500 references, 50 components", peer="vip_hci eigen", goal=5)
def klip_500() -> Contest:
    return klip(500, 50)


@case("contrast curve, 20 references, with the choice of components", peer="vip_hci.contrast_curve", goal=5)
def contrast_curve() -> Contest:
    """Both get stamps without what is smooth, which we would remove first."""
    from vip_hci.metrics import contrast_curve as vip_curve
    from vip_hci.psfsub import pca

    from obsarchive.science.psf.injected_companions import Place

    star, stamps = library(20)
    found = contrast.subtract_star(star, stamps, FWHM_PX)
    place = Place(star, FWHM_PX)
    sharp, references = place.sharp(star), np.array([place.sharp(stamp) for stamp in stamps])
    psf = place._sharp_psf[60:-60, 60:-60]
    sharp_flux = float(aperture_flux(psf, FWHM_PX)[len(psf) // 2, len(psf) // 2])

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        table = vip_curve(
            sharp[np.newaxis],
            np.zeros(1),
            psf / sharp_flux,
            FWHM_PX,
            1.0,
            sharp_flux,
            pca,
            nbranch=3,
            student=True,
            plot=False,
            verbose=False,
            cube_ref=references,
            ncomp=found.n_components,
            scaling="spat-mean",
            mask_center_px=FWHM_PX,
        )
        return table["distance"].to_numpy(), table["sensitivity_student"].to_numpy()

    def apart(ours: contrast.Subtraction, peer: tuple[np.ndarray, np.ndarray]) -> float:
        distance, sensitivity = peer
        inside = (distance > 4 * FWHM_PX) & (distance < 70)
        mine = np.interp(distance[inside], ours.curve.radius_px, ours.curve.magnitudes)
        return float(np.median(mine + 2.5 * np.log10(sensitivity[inside])))

    return Contest(
        lambda: contrast.subtract_star(star, stamps, FWHM_PX),
        theirs,
        lambda a, b: f"{apart(a, b):+.2f} mag in the median",
        lambda a, b: abs(apart(a, b)) < 0.2,
    )


@case("Richardson-Lucy until the data are fitted as by 30 plain iterations, 512x512", peer="skimage float32", goal=2.5)
def richardson_lucy() -> Contest:
    from skimage.restoration import richardson_lucy as skimage_lucy

    rng = np.random.default_rng(8)
    yy, xx = np.mgrid[-40:41, -40:41]
    psf = np.exp(-(yy**2 + xx**2) / 20) + 0.02 / (1 + (yy**2 + xx**2) / 100) ** 2
    psf = (psf / psf.sum()).astype(np.float32)
    truth = np.pad(scenes.planetary_disc(size(150, 30), size(400, 80), seed=2), size(56, 24))
    image = rng.poisson(np.maximum(500 * signal.fftconvolve(truth, psf, mode="same"), 0)).astype(np.float32)

    def misfit(found: np.ndarray) -> float:
        model = np.maximum(signal.fftconvolve(found, psf, mode="same"), 1e-3)
        return float(np.sum(model - image * np.log(model)))

    def detail(found: np.ndarray) -> float:
        return float(np.corrcoef(found.ravel(), truth.ravel())[0, 1])

    def plain() -> np.ndarray:
        return skimage_lucy(image, psf, num_iter=30, clip=False)

    def steps() -> Iterator[np.ndarray]:
        return (found for found, _ in deconvolution._iterations(image, psf, 5.0))

    goal = misfit(plain())
    enough = next(number for number, found in enumerate(steps()) if misfit(found) <= goal)
    return Contest(
        lambda: next(itertools.islice(steps(), enough, None)),
        plain,
        lambda a, b: f"{enough + 1} iterations; correlation with the truth {detail(a):.4f} and {detail(b):.4f}",
        lambda a, b: detail(a) > detail(b) - 0.005,
    )
