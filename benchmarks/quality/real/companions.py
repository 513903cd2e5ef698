"""Companions: β Pictoris b and companions added to PSFs of Robo-AO, beside VIP and publications."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage, optimize
from vip_hci.fm import cube_inject_companions, firstguess, normalize_psf
from vip_hci.psfsub import pca

from benchmarks.quality.compared import Compared, version_of
from benchmarks.quality.real.data import FOLDER, pixels_of, plain_pixels
from benchmarks.quality.real.frames import ROBO_AO
from obsarchive.science.psf.contrast import Detection, subtract_star
from obsarchive.science.psf.subtraction import Components, References, cut_stamp, radii, subtraction_mask

BETA_PIC = "β Pic, NACO L′"
PUBLISHED = {"separation": (0.452, 0.010), "angle": (211.2, 1.3)}
"""Separation [arcsec] and position angle [deg], with errors: Absil et al. (2013, A&A 559, L12)."""
TRUE_NORTH_DEG = -104.84
"""Offset of NACO's angles in pupil tracking; with the data in the documentation of VIP."""
PIXEL_ARCSEC = 0.02719
CENTRE, HALF = 51, 49
N_COMPONENTS, LEAST_MOTION = 12, 0.3
SUBSETS, VIP_COMPONENTS = 3, 3
VIP_SCATTER = (3.4, 0.22, 0.06)
"""Standard deviation of the separation [mas], angle [deg] and magnitude by VIP with 3, 5, 7 and 9 components."""
ROBO_FWHM = 5.0
STAMP_SIDE = 81
ADDED = ((18.0, 40.0, 0.3), (22.0, 200.0, 0.2), (28.0, 310.0, 0.15))
"""Separation [pixel], angle from x to y [deg] and flux ratio of companions that are added."""


@dataclass(frozen=True, eq=False)
class Sequence:
    """Planes in pupil tracking around a star behind a coronagraph.

    Parameters
    ----------
    planes : ndarray (n, side, side)
        Star on the central pixel.
    turned_deg : ndarray (n,)
        Angle by which north is turned in each.
    psf : ndarray (side, side)
        Star without the coronagraph, peak 1.
    """

    planes: np.ndarray
    turned_deg: np.ndarray
    psf: np.ndarray

    @property
    def fwhm_px(self) -> float:
        return float(2 * np.sqrt(np.sum(self.psf > 0.5) / np.pi))

    def places(self, separation_px: float, angle_deg: float) -> np.ndarray:
        """Return the offsets (n, 2) of a companion from the star, y and x [pixel]."""
        angle = np.radians(angle_deg - self.turned_deg)
        return separation_px * np.stack([np.cos(angle), -np.sin(angle)], axis=1)

    def without(self, subset: int) -> "Sequence":
        """Return the planes that are not in one of `SUBSETS` interleaved subsets."""
        kept = np.arange(len(self.planes)) % SUBSETS != subset
        return Sequence(self.planes[kept], self.turned_deg[kept], self.psf)


@cache
def beta_pic() -> Sequence:
    """Return the planes of β Pictoris."""
    folder = FOLDER / "psfsub" / "naco_betapic_third"
    cube, angles, psf = (pixels_of(folder / f"naco_betapic_{name}.fits") for name in ("third_cube", "third_pa", "psf"))
    cut = slice(CENTRE - HALF, CENTRE + HALF + 1)
    return Sequence(cube[:, cut, cut], angles + TRUE_NORTH_DEG, np.pad(psf / psf.max(), HALF - len(psf) // 2))


def _subtracted(sequence: Sequence, guess: tuple[float, float]) -> tuple[np.ndarray, list[Components]]:
    """Return the planes, each subtracted with those in which the field has turned, and the components of each."""
    turned = np.radians(sequence.turned_deg)
    left, components = [], []
    for i, plane in enumerate(sequence.planes):
        moved = 2 * guess[0] * np.abs(np.sin((turned - turned[i]) / 2))
        chosen = sequence.planes[moved > LEAST_MOTION * sequence.fwhm_px].astype(np.float32)
        components.append(References(chosen, subtraction_mask(plane, 5)).components())
        left.append(np.nan_to_num(components[-1].subtract(plane, [N_COMPONENTS])[0]))
    return np.array(left), components


def companion_in(sequence: Sequence, guess: tuple[float, float]) -> np.ndarray:
    """Return separation [pixel], angle [deg] and peak of a companion, with the archive's subtraction.

    The place is that where what the subtraction leaves of a companion fits best. The peak is that of a companion
    whose removal from all planes leaves least, as those with which a plane is subtracted hold it as well.
    """
    left, components = _subtracted(sequence, guess)
    yy, xx = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    near = [np.hypot(yy - dy, xx - dx) < 1.5 * sequence.fwhm_px for dy, dx in sequence.places(*guess)]
    pixels = left[near]

    def moved(where: np.ndarray) -> np.ndarray:
        return np.array([ndimage.shift(sequence.psf, place, order=3) for place in sequence.places(*where)])

    def misfit(where: np.ndarray) -> np.ndarray:
        model = [c.subtract(one, [N_COMPONENTS])[0] for c, one in zip(components, moved(where), strict=True)]
        values = np.nan_to_num(np.array(model))[near]
        misfit.peak = float(values @ pixels / (values @ values))
        return pixels - misfit.peak * values

    where = optimize.least_squares(misfit, guess, diff_step=0.003).x
    companion = moved(where)

    def remaining(peak: float) -> float:
        without = Sequence(sequence.planes - peak * companion, sequence.turned_deg, sequence.psf)
        return float(np.sum(_subtracted(without, guess)[0][near] ** 2))

    bounds = 0.5 * misfit.peak, 5 * misfit.peak
    peak = optimize.minimize_scalar(remaining, bounds=bounds, method="bounded", options={"xatol": 0.02 * misfit.peak}).x
    return np.array([*where, peak])


def beta_pic_rows() -> Iterator[Compared]:
    """Compare β Pictoris b with VIP on the same planes, and with the published place."""
    sequence = beta_pic()
    guess = PUBLISHED["separation"][0] / PIXEL_ARCSEC, PUBLISHED["angle"][0]
    ours = companion_in(sequence, guess)
    # jackknife over interleaved thirds of the planes
    parts = np.array([companion_in(sequence.without(subset), guess) for subset in range(SUBSETS)])
    errors = np.sqrt((SUBSETS - 1) / SUBSETS * np.sum((parts - parts.mean(axis=0)) ** 2, axis=0))
    theirs = _by_vip(sequence, guess)
    mas = 1e3 * PIXEL_ARCSEC
    program = version_of("vip_hci") + ", negative companion"
    values = mas * ours[0], mas * errors[0], mas * theirs[0], VIP_SCATTER[0]
    yield Compared(BETA_PIC, "separation", program, *values, "mas")
    yield Compared(BETA_PIC, "position angle", program, ours[1], errors[1], theirs[1], VIP_SCATTER[1], "°")
    values = -2.5 * np.log10(ours[2]), 1.0857 * errors[2] / ours[2], -2.5 * np.log10(theirs[2]), VIP_SCATTER[2]
    yield Compared(BETA_PIC, "magnitude", program, *values, "mag")
    program = "Absil et al. (2013, A&A 559, L12)"
    separation, angle = PUBLISHED["separation"], PUBLISHED["angle"]
    values = mas * ours[0], mas * errors[0], 1e3 * separation[0], 1e3 * separation[1]
    yield Compared(BETA_PIC, "separation", program, *values, "mas")
    yield Compared(BETA_PIC, "position angle", program, ours[1], errors[1], *angle, "°")


def _by_vip(sequence: Sequence, guess: tuple[float, float]) -> np.ndarray:
    """Return separation [pixel], angle [deg] and peak by VIP."""
    dy, dx = guess[0] * np.cos(np.radians(guess[1])), -guess[0] * np.sin(np.radians(guess[1]))
    middle = HALF - 19
    psf, flux, fwhm = normalize_psf(
        sequence.psf[middle:-middle, middle:-middle], fwhm="fit", size=19, full_output=True, verbose=False
    )
    radius, angle, found = firstguess(
        sequence.planes,
        sequence.turned_deg,
        psf,
        [(round(HALF + dx), round(HALF + dy))],
        ncomp=VIP_COMPONENTS,
        fwhm=fwhm,
        annulus_width=4 * fwhm,
        aperture_radius=2,
        simplex=True,
        verbose=False,
        imlib="opencv",
        interpolation="lanczos4",
        f_range=np.linspace(100, 2000, 20),
    )
    return np.array([radius[0], (angle[0] - 90) % 360, found[0] / float(np.ravel(flux)[0])])


@cache
def robo_ao_stamps() -> np.ndarray:
    """Return the PSFs of Robo-AO as stamps (k, side, side)."""
    images = [plain_pixels(path).astype(float) for path in sorted((FOLDER / "psfsub" / "roboao_psf").glob("*.fits"))]
    return np.stack([cut_stamp(im, np.unravel_index(np.argmax(im), im.shape), STAMP_SIDE) for im in images])


def added_rows(most: int = 15) -> Iterator[Compared]:
    """Compare companions that VIP adds to the first PSFs of Robo-AO with what the archive finds."""
    stamps = robo_ao_stamps()
    found: list[tuple[Detection | None, np.ndarray]] = []
    for number in range(min(most, len(stamps))):
        for separation, angle, ratio in ADDED:
            others = np.delete(stamps, number, axis=0)
            double = cube_inject_companions(
                stamps[number][np.newaxis],
                stamps[number],
                np.zeros(1),
                ratio,
                separation,
                theta=angle,
                imlib="opencv",
                verbose=False,
            )[0]
            truth = np.array([separation * np.sin(np.radians(angle)), separation * np.cos(np.radians(angle)), ratio])
            seen = subtract_star(double.astype(np.float32), others, ROBO_FWHM).detections
            near = [one for one in seen if np.hypot(one.dy - truth[0], one.dx - truth[1]) < ROBO_FWHM]
            found.append((near[0] if near else None, truth))
    seen = [(one, truth) for one, truth in found if one is not None]
    program = version_of("vip_hci") + ", companions added"
    # as an image of Gaussian form would allow, if no error is claimed
    usual = np.array([ROBO_FWHM / one.snr for one, _ in seen])
    for name, error, column in (
        ("separation", "separation_error_px", 0),
        ("place across it", "tangential_error_px", 1),
    ):
        ours, theirs = np.array([_along(one, truth) for one, truth in seen])[:, :, column].T
        claimed = [getattr(one, error, np.nan) for one, _ in seen]
        yield Compared(ROBO_AO, f"{name} of companions", program, ours, claimed, theirs, np.nan, "px", usual)
    magnitude, error = [one.delta_mag for one, _ in seen], [one.delta_mag_error for one, _ in seen]
    theirs = [-2.5 * np.log10(truth[2]) for _, truth in seen]
    values = magnitude, error, theirs
    yield Compared(ROBO_AO, "magnitude difference of companions", program, *values, np.nan, "mag")


def _along(found: Detection, truth: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the place of a companion along and across the direction to the true one, and that of the true one."""
    separation = float(np.hypot(*truth[:2]))
    dy, dx = truth[:2] / separation
    return (found.dy * dy + found.dx * dx, found.dy * dx - found.dx * dy), (separation, 0.0)


def subtraction_rows() -> Iterator[Compared]:
    """Compare the residuals of each PSF of Robo-AO with those of VIP, from the same references and components."""
    stamps = robo_ao_stamps()
    ratios = []
    for number, stamp in enumerate(stamps):
        others = np.delete(stamps, number, axis=0)
        ours = subtract_star(stamp, others, ROBO_FWHM)
        theirs = pca(
            np.nan_to_num(stamp)[np.newaxis],
            np.zeros(1),
            cube_ref=np.nan_to_num(others[list(ours.used)]),
            ncomp=ours.n_components,
            mask_center_px=round(ROBO_FWHM),
            scaling="spat-mean",
            verbose=False,
        )
        ring = np.isfinite(ours.residual) & (radii(STAMP_SIDE) > 2 * ROBO_FWHM) & (radii(STAMP_SIDE) < 35)
        # without the large scales, which the archive removes before
        sharp = theirs - ndimage.gaussian_filter(theirs, 2.5 * ROBO_FWHM)
        ratios.append(float(np.std(ours.residual[ring]) / np.std(sharp[ring])))
    program = version_of("vip_hci") + ", PCA"
    yield Compared(
        ROBO_AO, "noise of the subtracted star over theirs", program, np.median(ratios), np.nan, 1.0, np.nan, "", 0.1
    )
