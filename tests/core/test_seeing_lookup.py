"""Seeing of an observation: the night's median and the measurement nearest in time, each with its error."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from obsarchive.core.documents import Night
from obsarchive.core.seeing_lookup import nearest_seeing

NINE = datetime(2026, 3, 14, 9, tzinfo=UTC)


def night(*frames: dict[str, Any], **more: Any) -> Night:
    results = {"frames": [{"file": f"seeing_{number}", **frame} for number, frame in enumerate(frames)], **more}
    return Night({"_id": "20260314", "seeing": {"steps": {"measure": {"state": "done", "results": results}}}})


def frame(minutes: float, fwhm: float | None, error: float | None = None) -> dict[str, Any]:
    known = {} if error is None else {"fwhm_error_arcsec": error}
    return {"date_utc": (NINE + timedelta(minutes=minutes)).isoformat(), "fwhm_arcsec": fwhm, **known}


def test_each_value_has_its_own_error() -> None:
    found = nearest_seeing(
        night(frame(-50, 1.4, 0.05), frame(-2, None), frame(10, 1.2, 0.03), median_error_arcsec=0.1), NINE
    )
    assert found == {
        "median_arcsec": pytest.approx(1.3),
        "median_error_arcsec": 0.1,
        "nearest_arcsec": 1.2,
        "nearest_error_arcsec": 0.03,
        "nearest_utc": NINE + timedelta(minutes=10),
    }


def test_what_is_not_known_has_no_error() -> None:
    far = nearest_seeing(night(frame(-70, 1.4, 0.05), median_error_arcsec=0.1), NINE)
    assert (far["median_arcsec"], far["median_error_arcsec"]) == (1.4, 0.1)
    assert (far["nearest_arcsec"], far["nearest_error_arcsec"], far["nearest_utc"]) == (None, None, None)
    assert set(nearest_seeing(night(median_error_arcsec=0.1), NINE).values()) == {None}
    old = nearest_seeing(night(frame(5, 1.1)), NINE)
    assert (old["nearest_arcsec"], old["nearest_error_arcsec"], old["median_error_arcsec"]) == (1.1, None, None)


def test_the_night_has_the_error_of_its_median_too() -> None:
    fields = night(frame(0, 1.1, 0.02), median_error_arcsec=0.1).seeing_fields()
    assert (fields["seeing.median_arcsec"], fields["seeing.median_error_arcsec"]) == (1.1, 0.1)
    assert night().seeing_fields()["seeing.median_error_arcsec"] is None
