"""A few of the trials of the quality page: planets brighter than the contrast curve are found, and little else."""

import numpy as np
import pytest

from benchmarks.quality import contrast_curves


@pytest.fixture(scope="module")
def few_references():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast_curves, "LIBRARY_STARS", 4)
        patch.setattr(contrast_curves, "N_REFERENCES", (3,))
        contrast_curves.library.cache_clear()
        yield
    contrast_curves.library.cache_clear()


@pytest.mark.usefixtures("few_references")
def test_planets_above_the_curve_are_found_in_registered_sums():
    outcomes = [item for seed in range(6) for item in contrast_curves.registered_trial(seed)]
    bright = [item.found for item in outcomes if isinstance(item, contrast_curves.Planet) and item.level == 7]
    assert len(bright) >= 4
    assert sum(bright) >= len(bright) - 1
    assert sum(item.n_false for item in outcomes if isinstance(item, contrast_curves.Image)) <= 1


@pytest.mark.usefixtures("few_references")
def test_stars_beside_a_star_are_found_within_their_errors():
    sky, references = contrast_curves.library(0)
    beside = list(contrast_curves.stars_beside(sky, sky.star(), references["100p"]))
    assert len(beside) == 4
    pulls = np.array([item.errors for item in beside]) / [item.claimed for item in beside]
    assert np.isfinite(pulls).all()
    assert 0.4 < np.std(pulls) < 1.6
