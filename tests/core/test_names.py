"""Names of observations: what is accepted reads back the same, what is accepted is safe."""

import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.names import MAX_LENGTH, ObservationName, is_night, parse_stamp

YRSA = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"

words = st.text(string.ascii_letters + string.digits + "+.-", min_size=1, max_size=12)
programs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.]{0,5}", fullmatch=True)
targets = st.text(string.ascii_letters + string.digits + "_+.-", min_size=1, max_size=30)
times = st.datetimes(timezones=st.just(UTC))
names = st.builds(ObservationName, programs, targets, words, words, words, times)


def test_a_name_is_taken_apart():
    assert ObservationName.parse(YRSA) == ObservationName(
        "4", "351_Yrsa", "VIC", "lp600", "o", datetime(2016, 9, 25, 11, 4, 27, 40912, UTC)
    )


@pytest.mark.parametrize(
    ("text", "program", "target"),
    [
        ("4.1_KOI-0628_VIC_Si_o_20160925_110427.040912", "4.1", "KOI-0628"),
        ("3_GJ_1134+B_VIC_Si_o_20160925_110427.040912", "3", "GJ_1134+B"),
        ("3_J1234.5-6789_VIC_Si_o_20160925_110427.040912", "3", "J1234.5-6789"),
        ("7__VIC_Si_o_o_20160925_110427.040912", "7", "_VIC"),
    ],
)
def test_programme_and_target_may_hold_dots_signs_and_underscores(text, program, target):
    name = ObservationName.parse(text)
    assert (name.program, name.target, str(name)) == (program, target, text)


@given(names)
def test_every_name_reads_back(name):
    assert ObservationName.parse(str(name)) == name


@given(st.one_of(names.map(str), st.text(), st.from_regex(r".+_\d{8}_\d{6}\.\d{6}", fullmatch=True)))
def test_any_text_is_a_name_or_a_value_error(text):
    try:
        name = ObservationName.parse(text)
    except ValueError:
        return
    assert str(name) == text
    assert set(text) <= set(string.ascii_letters + string.digits + "_+.-")
    assert text[0].isalnum()
    assert len(text) <= MAX_LENGTH


@pytest.mark.parametrize(
    "text",
    [
        "",
        "../etc/passwd",
        f"../{YRSA}",
        f"{YRSA}\n",
        f" {YRSA}",
        f".{YRSA}",
        f"-{YRSA}",
        YRSA.replace("351", "3/51"),
        YRSA.replace("351", "3\u0665"),  # a digit, but not of ours
        YRSA.replace("Yrsa", "Yrsa\udcff"),
        YRSA.replace("20160925", "20160931"),
        YRSA.replace("110427", "250427"),
        YRSA.replace(".040912", ""),
        YRSA.replace("351", "3" * MAX_LENGTH),
    ],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError):
        ObservationName.parse(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("20160229", True),
        ("20150229", False),
        ("2016022", False),
        ("20160229 ", False),
        ("calib", False),
        ("２０１６０２２９", False),
        ("00000000", False),
    ],
)
def test_a_night_is_a_calendar_date(text, answer):
    assert is_night(text) is answer


def test_stamps_are_utc():
    assert parse_stamp("20160925_110427.040912").utcoffset().total_seconds() == 0
