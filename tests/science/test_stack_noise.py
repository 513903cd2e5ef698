"""Noise that frames are aligned on, where the noise is known."""

import numpy as np

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.stack_noise import aligned_noise, noise_of_frames
from obsarchive.science.registration.frame_measure import measure

SIDE, SIGMA, SEARCHED, LIGHT, SKY = 64, 1.1, 1.08, 900.0, 0.3


def test_noise_of_the_light_on_which_frames_are_aligned():
    rng = np.random.default_rng(5)
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    measures, noise, light = [], Drizzle((SIDE, SIDE), 2, 0.6), Drizzle((SIDE, SIDE), 2, 0.6)
    for _ in range(1500):
        y, x = rng.uniform(-1, 1, 2)
        star = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * SIGMA**2)) * LIGHT / (2 * np.pi * SIGMA**2)
        frame = rng.poisson(star + SKY) - SKY
        found = measure(frame.astype(np.float32), SEARCHED)
        measures.append(found)
        for stack, image in ((noise, frame - star), (light, star)):
            stack.add(image.astype(np.float32), SIDE / 2 - found.y, SIDE / 2 - found.x)
    told = noise_of_frames(measures, 2, 0.6)
    centre = noise.output_position(SIDE / 2, SIDE / 2)
    distance = np.hypot(*(axis - c for axis, c in zip(np.indices((2 * SIDE, 2 * SIDE)), centre, strict=True)))
    radii = np.linspace(0, 20, 200)
    profile = np.array([light.image()[np.abs(distance - radius) < 0.8].mean() for radius in radii])
    expected = aligned_noise(radii, profile, told, float(np.hypot(2 * SEARCHED, 0.4)))
    near, below = distance < 1.0, (distance > 2.5) & (distance < 5)
    peak = profile[0]
    assert noise.image()[near].mean() / peak > 0.005
    # half as high and wider if the light had the same noise everywhere
    for part in (near, below):
        there = np.interp(distance[part], radii, expected).mean() / peak
        assert abs(noise.image()[part].mean() / peak - there) < 0.2 * abs(there) + 2e-4
