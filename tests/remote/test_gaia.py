"""Entries of Gaia near a place: from the configured service only, with limits, kept on disk."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from test_sky_images import Any, service

from obsarchive.errors import Unprocessable
from obsarchive.remote import gaia
from obsarchive.remote.answer_files import cached_file
from obsarchive.remote.gaia import gaia_around, gaia_near
from obsarchive.remote.http import ServiceTimeoutError

__all__ = ["service"]

NAMES = ["Source", "RA_ICRS", "DE_ICRS", "Gmag", "BP-RP", "Plx", "e_Plx", "pmRA", "pmDE"]
FAR = ["4472832130942575873", "269.45265", "4.6925", "20.812", "1.92", "", "", "", "", "", ""][: len(NAMES)]
NEAR = ["4472832130942575872", "269.452076", "+4.693391", "16.212", "0.412", "12.4521", "0.0512", "-31.221", "12.01"]
PLACE = 269.452076, 4.693391


def answer(*rows: list[str]) -> bytes:
    head = [NAMES, ["deg"] * len(NAMES), ["---"] * len(NAMES)] if rows else []
    return "\n".join(["#", "#INFO\tx", *("\t".join(row) for row in (*head, *rows)), ""]).encode()


def address(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}/viz-bin/asu-tsv"


def test_the_nearest_comes_first_and_the_service_is_asked_once(service: Any, tmp_path: Path) -> None:
    service.answer = (200, answer(FAR, NEAR), 0.0)
    found = [gaia_near(PLACE, 5.0, address(service), tmp_path) for _ in range(3)]
    assert len(service.asked) == 1
    near, far = found[0]
    assert found[1] == found[2] == [near, far]
    assert near == gaia.Match("Gaia DR3 4472832130942575872", 0.0, 16.212, 0.412, 12.4521, 0.0512, -31.221, 12.01)
    assert far.name == "Gaia DR3 4472832130942575873", "an identifier keeps its digits"
    assert far.distance_arcsec == pytest.approx(3.81, abs=0.01)
    assert far.parallax_mas is None


def test_the_question_is_about_the_place(service: Any, tmp_path: Path) -> None:
    service.answer = (200, answer(NEAR), 0.0)
    gaia_near((0.0001, -5.5), 5.0, address(service), tmp_path)
    asked = parse_qs(urlsplit(service.asked[0]).query)
    assert asked["-source"] == ["I/355/gaiadr3"]
    assert asked["-c"] == ["0.000100 -5.500000"]
    assert asked["-c.rs"] == ["5"]


def test_nothing_there_is_an_answer(service: Any, tmp_path: Path) -> None:
    service.answer = (200, answer(), 0.0)
    assert gaia_near(PLACE, 5.0, address(service), tmp_path) == []
    assert gaia_near(PLACE, 5.0, address(service), tmp_path) == []
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((503, b"", 0.0), "answered 503"),
        ((302, b"", 0.0), "answered 302"),
        ((200, b"<html>maintenance</html>", 0.0), "no table of Gaia"),
        ((200, b"#\na\tb\n-\t-\n-\t-\n1\t2\n", 0.0), "no table of Gaia"),
        ((200, b"#" * 2_000_000, 0.0), "more than"),
        ((200, b"#" * 600_000, 0.3), "too slow"),
    ],
)
def test_anything_else_is_told_and_not_kept(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple, words: str
) -> None:
    monkeypatch.setattr(gaia, "LIMIT_S", 0.5)
    service.answer = given
    with pytest.raises(ServiceTimeoutError, match=words):
        gaia_near(PLACE, 5.0, address(service), tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ServiceTimeoutError, match="cannot be reached"):
        gaia_near(PLACE, 5.0, "http://127.0.0.1:9/asu-tsv", tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((503, b"", 0.0), "no catalogue: http.*asu-tsv answered 503"),
        ((302, b"", 0.0), "answered 302"),
        ((200, answer(), 0.0), "the answer of http.* is empty"),
        ((200, b"<html>maintenance</html>", 0.0), "is empty"),
    ],
)
def test_a_field_without_stars_is_told_and_asked_for_again(
    service: Any, tmp_path: Path, given: tuple, words: str
) -> None:
    service.answer = given
    with pytest.raises(Unprocessable, match=words):
        gaia_around(PLACE, 0.1, address(service), tmp_path)
    assert not list(tmp_path.iterdir())
    service.answer = (200, answer(FAR, NEAR), 0.0)
    stars = gaia_around(PLACE, 0.1, address(service), tmp_path)
    assert stars.magnitude.tolist() == [16.212, 20.812]
    assert (stars.origin, stars.epoch, stars.is_gaia) == ("Gaia DR3", 2016.0, True)
    assert len(service.asked) == 2


def test_what_was_used_last_is_kept(tmp_path: Path) -> None:
    for number in range(5):
        cached_file(tmp_path / f"{number}.tsv", lambda: b"x", 3)
        cached_file(tmp_path / "0.tsv", lambda: b"y", 3)
    assert {path.name for path in tmp_path.iterdir()} >= {"0.tsv", "4.tsv"}
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "0.tsv").read_bytes() == b"x"
