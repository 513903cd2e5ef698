"""A few of the trials of the quality page: planets brighter than the contrast curve are found, and little else."""

import pytest

from benchmarks.quality import contrast_curves


@pytest.fixture
def few_references(monkeypatch):
    monkeypatch.setattr(contrast_curves, "LIBRARY_STARS", 4)
    monkeypatch.setattr(contrast_curves, "N_REFERENCES", (3,))
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
