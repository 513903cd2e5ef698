"""Star fields as an ordinary camera sees them, turned and shifted as wanted; for tests of the registration."""

import numpy as np

from obsarchive.science.imaging.resampling import MIRROR, Turn

SIGMA_PX, SKY, READ_NOISE = 1.6, 200.0, 3.0


def sky_of(n: int, side: int, beyond: int = 0, seed: int = 1) -> np.ndarray:
    """Positions (y, x) in the first frame and flux of `n` stars, (n, 3), also `beyond` its edges."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-beyond, side + beyond, (n, 2))
    return np.column_stack([places, 10 ** rng.uniform(3.5, 5, n)])


def turn_about_middle(side: int, angle_deg: float = 0.0, mirror: bool = False, shift: tuple = (0.0, 0.0)) -> Turn:
    """From a turned frame to the first one: the middle of the frame moves by the shift."""
    angle, middle = np.radians(angle_deg), np.full(2, (side - 1) / 2)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix = matrix @ MIRROR if mirror else matrix
    return Turn(matrix, middle - matrix @ middle + shift)


def exposure(stars: np.ndarray, side: int, turn: Turn | None = None, seed: int = 0, light: float = 1.0) -> np.ndarray:
    """One exposure of the field; `turn` leads from it to the first frame."""
    rng = np.random.default_rng(seed)
    places = stars[:, :2] if turn is None else turn.inverse(stars[:, :2])
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), SKY)
    for (star_y, star_x), flux in zip(places, light * stars[:, 2], strict=True):
        if -10 < star_y < side + 10 and -10 < star_x < side + 10:
            profile = np.exp(-((y - star_y) ** 2 + (x - star_x) ** 2) / (2 * SIGMA_PX**2))
            image += flux / (2 * np.pi * SIGMA_PX**2) * profile
    return (rng.poisson(image) + rng.normal(0, READ_NOISE, image.shape)).astype(np.float32)


def with_cosmic_rays(image: np.ndarray, n: int, seed: int, width: int = 1) -> np.ndarray:
    """Add straight tracks of up to 8 pixels."""
    rng, hit = np.random.default_rng(seed), image.copy()
    for _ in range(n):
        start, angle = rng.uniform(10, np.array(image.shape) - 20), rng.uniform(0, 2 * np.pi)
        for step in range(rng.integers(1, 8)):
            y, x = (start + step * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            hit[y : y + width, x : x + width] += rng.uniform(300, 5000)
    return hit
