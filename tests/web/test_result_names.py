"""Keys of measured values, as pages write them."""

import pytest

from obsarchive.web.framework.template_filters import result_rows


@pytest.mark.parametrize(
    ("key", "label", "unit"),
    [
        ("contrast_0_5_arcsec_mag", "5σ contrast at 0.5″", "mag"),
        ("contrast_1_arcsec_mag", "5σ contrast at 1″", "mag"),
        ("contrast_1_25_arcsec_mag", "5σ contrast at 1.25″", "mag"),
        ("throughput_2_px_percent", "throughput at 2 px", "%"),
        ("depth_0_5_h", "depth 0 5 h", ""),  # no unit that is known: nothing is guessed
        ("frames_used", "frames used", ""),
        ("fwhm_arcsec", "FWHM", "″"),
        ("ratio_percent", "Strehl ratio", "%"),
    ],
)
def test_a_number_in_a_key_is_where_it_was_measured(key: str, label: str, unit: str) -> None:
    (row,) = result_rows({key: 1.0})
    assert (row.label, row.unit) == (label, unit)
