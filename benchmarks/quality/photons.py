"""Star fields drawn photon by photon: no profile of a star is computed, so that none can be that of a fit."""

from dataclasses import dataclass

import numpy as np

Floats = np.ndarray


@dataclass(frozen=True)
class Seeing:
    """Light of a point source: an elliptical Gaussian core in wide wings, neither Gaussian nor Moffat.

    Parameters
    ----------
    fwhm_px : float
        FWHM of the core along its short axis [pixel].
    wings : float
        Share of the light in the wings.
    ellipticity, angle_rad : float
        Excess of the long axis, and its direction from x.
    """

    fwhm_px: float
    wings: float = 0.2
    ellipticity: float = 0.08
    angle_rad: float = 0.6

    def photons(self, rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        """Return where photons arrive, relative to the star (dy, dx) [pixel]."""
        sigma = self.fwhm_px / 2.3548
        u, v = rng.normal(0, sigma * (1 + self.ellipticity), n), rng.normal(0, sigma, n)
        far = np.flatnonzero(rng.random(n) < self.wings)
        # the light within a radius of a Moffat profile of exponent 3, inverted
        radius = 1.3 * self.fwhm_px * np.sqrt(rng.random(len(far)) ** -0.5 - 1)
        turn = rng.uniform(0, 2 * np.pi, len(far))
        u[far], v[far] = radius * np.cos(turn), radius * np.sin(turn)
        cosine, sine = np.cos(self.angle_rad), np.sin(self.angle_rad)
        return sine * u + cosine * v, cosine * u - sine * v

    def share(self, radius_px: float, n: int = 2_000_000, seed: int = 1) -> float:
        """Return the share of the light of a star in a circle of whole and divided pixels, over all pixel phases."""
        rng = np.random.default_rng(seed)
        y, x = self.photons(rng, n)
        centre_y, centre_x = rng.uniform(-0.5, 0.5, (2, n))
        # the light of a pixel lies anywhere in it
        dy = np.rint(centre_y + y) + rng.uniform(-0.5, 0.5, n) - centre_y
        dx = np.rint(centre_x + x) + rng.uniform(-0.5, 0.5, n) - centre_x
        return float(np.mean(dy * dy + dx * dx < radius_px**2))


@dataclass(frozen=True)
class Sky:
    """What else is in an image: sky [e-/pixel], its slope over the image [e-/pixel], read-out noise [e-]."""

    level_e: float = 50.0
    slope_e: float = 0.0
    read_noise_e: float = 5.0


def exposure(
    rng: np.random.Generator,
    shape: tuple[int, int],
    stars: tuple[Floats, Floats, Floats],
    seeing: Seeing,
    sky: Sky,
) -> Floats:
    """Draw the image of some stars.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    shape : (int, int)
        Of the image.
    stars : (ndarray (n,), ndarray (n,), ndarray (n,))
        Places (y, x) [pixel], and mean numbers of photons [e-].
    seeing : Seeing
        Light of a star.
    sky : Sky
        The rest.

    Returns
    -------
    ndarray (ny, nx)
        Pixels [e-].
    """
    y, x, electrons = stars
    counts = rng.poisson(electrons)
    dy, dx = seeing.photons(rng, int(counts.sum()))
    row, column = (np.rint(np.repeat(c, counts) + d).astype(int) for c, d in ((y, dy), (x, dx)))
    inside = (row >= 0) & (column >= 0) & (row < shape[0]) & (column < shape[1])
    light = np.bincount(row[inside] * shape[1] + column[inside], minlength=shape[0] * shape[1]).reshape(shape)
    across = np.linspace(-0.5, 0.5, shape[1])
    ground = rng.poisson(np.broadcast_to(sky.level_e + sky.slope_e * across, shape))
    return (light + ground + rng.normal(0, sky.read_noise_e, shape)).astype(np.float32)


def spread_out(rng: np.random.Generator, shape: tuple[int, int], apart_px: float) -> tuple[Floats, Floats]:
    """Return places (y, x) of stars that keep apart: a grid, each star shifted by up to a quarter of its step."""
    margin = apart_px / 2
    y, x = np.meshgrid(*(np.arange(margin, side - margin + 1e-6, apart_px) for side in shape), indexing="ij")
    y, x = (place.ravel() + rng.uniform(-0.25, 0.25, place.size) * apart_px for place in (y, x))
    return y, x
