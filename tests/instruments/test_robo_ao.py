"""Which file is what, and what hostile headers may say."""

import math
import os
from pathlib import Path

import bson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obsarchive.instruments import RoboAO
from obsarchive.instruments.base import SUFFIXES, stem
from obsarchive.names import ObservationName

ROBO = RoboAO()
OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
STAMP = "20160925_110427.040912"


def identify(name: str):
    return ROBO.identify(Path("/raw/20160925") / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("ending", "part"), [("", -1), ("_0", 0), ("_12", 12)])
def test_science_files_and_their_continuations(suffix, ending, part):
    raw = identify(f"{OBS}{ending}{suffix}")
    assert (raw.kind, raw.observation, raw.part, raw.filter) == ("science", OBS, part, "lp600")
    assert raw.date_utc == ObservationName.parse(OBS).date_utc


@pytest.mark.parametrize(
    ("name", "kind", "mode", "filter_"),
    [
        (f"dark_6_{STAMP}.fits.bz2", "dark", "6", ""),
        (f"dark_64_{STAMP}_3.fits", "dark", "64", ""),
        (f"flat_0_Si_{STAMP}.fits.bz2", "flat", "0", "Si"),
        (f"flat_0_lp600_{STAMP}.fits.gz", "flat", "0", "lp600"),
        (f"seeing_VIC_Si_o_{STAMP}.fits.fz", "seeing", "", "Si"),
        (f"bias_6_{STAMP}.fits", "ignored", "", ""),
        (f"bias_6_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
        (f"pointing_VIC_Si_x_o_{STAMP}.fits", "ignored", "", ""),
        (f"dark_6_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
        (f"flat_Si_{STAMP}.fits", "ignored", "", ""),
        (f"{OBS}.fits.part", "ignored", "", ""),
        (f"{OBS}.FITS", "ignored", "", ""),
        (f".{OBS}.fits", "ignored", "", ""),
        (f"{OBS}_x.fits", "ignored", "", ""),
        (f"{OBS}_123456.fits", "ignored", "", ""),
        ("dark_6_20160931_110427.040912.fits", "ignored", "", ""),
        ("truth.json", "ignored", "", ""),
        ("", "ignored", "", ""),
        ("-rf.fits", "ignored", "", ""),
        ("'; drop.fits", "ignored", "", ""),
        ("x" * 255, "ignored", "", ""),
        (f"{'3' * 230}_a_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
        (f"4_a\n_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
        (f"4_Ceres\udcff_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
        (f"4_Cérès_VIC_Si_o_{STAMP}.fits", "ignored", "", ""),
    ],
)
def test_the_table_of_kinds(name, kind, mode, filter_):
    raw = identify(name)
    assert (raw.kind, raw.mode, raw.filter) == (kind, mode, filter_)
    assert raw.name == (Path("/raw/20160925") / name).name


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("4_351_Yrsa_VIC_lp600_o_20160925_11042.fits", "<programme>_<object>_<camera>_<filter>_<mark>_yyyymmdd_HHMMSS"),
        ("4_351_Yrsa_VIC_lp600_o_20160931_110427.040912.fits", "with a date of the calendar"),
        (f"{OBS}.FITS", "<programme>_<object>"),
        ("dark_6_20160925.fits.bz2", "dark_<mode>_yyyymmdd"),
        (f"{OBS}.fits.zst", "packed as .zst"),
        (f"bias_{STAMP}.fits", ""),
        (f"pointing_{STAMP}.fits.bz2", ""),
        ("truth.json", ""),
        (f"{OBS}.fits.part", ""),
    ],
)
def test_fits_files_of_other_names_have_a_reason(name, form):
    problem = identify(name).problem
    assert form in problem
    assert bool(problem) == bool(form)


@given(
    st.text(st.characters(exclude_characters="/\0"), max_size=40)
    | st.binary(max_size=40).map(os.fsdecode).filter(lambda text: "/" not in text),
    st.sampled_from(["", f"_VIC_Si_o_{STAMP}.fits", f"_{STAMP}.fits.bz2", ".fits"]),
)
@example("4_..", f"_VIC_Si_o_{STAMP}.fits")
@example("4_a_VIC_Si_o_09990101", "_000000.000000.fits")
def test_any_file_name_is_identified_or_ignored(start, end):
    raw = identify(start + end)
    if raw.kind == "science":
        assert str(ObservationName.parse(raw.observation)) == raw.observation
        assert raw.name.startswith(raw.observation)


def test_stem_takes_off_the_longest_ending():
    assert stem("a.fits.bz2") == stem("a.fits") == "a"
    assert stem("a.bz2") is None


def test_settings_it_does_not_know_are_refused():
    with pytest.raises(ValueError, match="found gain"):
        RoboAO({"gain": 2})
    with pytest.raises(ValueError, match="expected a list of patterns, found 'acq_"):
        RoboAO({"ignored": "acq_*"})


def test_names_of_no_use_can_be_listed():
    path = Path("/raw/20160925/acq_1.fits.bz2")
    assert "setting ignored" in RoboAO().identify(path).problem
    assert RoboAO({"ignored": ["acq_*"]}).identify(path).problem == ""


# ------------------------------------------------------------------------------------- headers


def test_a_complete_header():
    fields = ROBO.describe(
        {
            "EXPOSURE": 90.0,
            "MAGNITUD": "11.2",
            "MODE_NUM": 6,
            "EMGAIN": 100,
            "NAXIS1": 256,
            "NAXIS2": 128,
            "TELRA": "20:24:00.00",
            "TELDEC": "-08:30:00.0",
            "EQUINOX": 2000.0,
            "AZIMUTH": 121.5,
            "ELEVATION": 62.3,
        }
    )
    assert fields.pop("coordinates") == {
        "epoch": 2000.0,
        "az_deg": 121.5,
        "el_deg": 62.3,
        "ra_deg": pytest.approx(306.0),
        "dec_deg": pytest.approx(-8.5),
        "geojson": {"type": "Point", "coordinates": [pytest.approx(-54.0), pytest.approx(-8.5)]},
    }
    assert fields == {"exposure_s": 90.0, "magnitude": 11.2, "mode": "6", "em_gain": 100.0, "shape": [128, 256]}


@pytest.mark.parametrize(
    ("header", "ra_dec"),
    [
        ({"TELRA": "12:00:00", "TELDEC": "+10:00:00"}, (180.0, 10.0)),
        ({"TELRA": "10h20m30.5s", "TELDEC": "-0d30m00s"}, (155.1270833, -0.5)),
        ({"TELRA": 180.0, "TELDEC": "10.0"}, (180.0, 10.0)),
        ({"TELRA": "10:20:60.00", "TELDEC": "+10:59:60.0"}, (155.25, 11.0)),  # as rounding clocks write it
        ({"TELRA": 9999, "TELDEC": 9999, "OBJRA": "12:00:00", "OBJDEC": "+10:00:00"}, (180.0, 10.0)),
        ({"TELRA": "9999", "TELDEC": "9999", "OBJRA": "12:00:00", "OBJDEC": "+10:00:00"}, (180.0, 10.0)),
        ({"TELRA": "9999", "TELDEC": "+10:00:00"}, None),
        ({"TELRA": "25:00:00", "TELDEC": "+10:00:00"}, None),
        ({"TELRA": "12:00:00", "TELDEC": "+95:00:00"}, None),
        ({"TELRA": "12:00:00"}, None),
        ({"TELRA": "", "TELDEC": "  "}, None),
        ({"TELRA": "1e400", "TELDEC": "nan"}, None),
        ({"TELRA": "\0", "TELDEC": "10 m"}, None),
        ({"TELRA": True, "TELDEC": False}, None),
    ],
)
def test_positions(header, ra_dec):
    found = ROBO.describe(header).get("coordinates", {})
    if ra_dec is None:
        assert "ra_deg" not in found
        assert "geojson" not in found
    else:
        assert (found["ra_deg"], found["dec_deg"]) == pytest.approx(ra_dec, abs=1e-6)


KEYS = [
    *("EXPOSURE", "MAGNITUD", "EMGAIN", "MODE_NUM", "NAXIS1", "NAXIS2", "EQUINOX", "AZIMUTH", "ELEVATION"),
    *("TELRA", "TELDEC", "OBJRA", "OBJDEC"),
]
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=12),
    st.text("0123456789:hmsd+-. einf", max_size=12),
)


@given(st.dictionaries(st.sampled_from(KEYS), values))
@example({"NAXIS1": 10**30, "NAXIS2": 3})
@example({"NAXIS1": -5, "NAXIS2": 0.5})
@example({"MAGNITUD": 10**400})
@example({"TELRA": 1e308, "TELDEC": 90})
@example({"TELRA": -1e-20, "TELDEC": 0})
def test_any_header_gives_fields_that_the_database_takes(header):
    fields = ROBO.describe(header)
    assert bson.decode(bson.encode(fields)) == fields  # also says that nothing is NaN
    assert all(side > 0 for side in fields.get("shape", [1]))
    coordinates = fields.get("coordinates", {})
    if "geojson" in coordinates:
        longitude, latitude = coordinates["geojson"]["coordinates"]
        assert -180 <= longitude <= 180
        assert -90 <= latitude <= 90
        assert 0 <= coordinates["ra_deg"] < 360
        assert math.isclose((longitude - coordinates["ra_deg"] + 180) % 360, 180, abs_tol=1e-6)
