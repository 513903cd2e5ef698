"""The client of the science archive, against a server that misbehaves as real ones do."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from obsarchive.errors import ConfigError
from obsarchive.remote import http
from obsarchive.remote.http import ArchiveUnavailable, Refused
from obsarchive.timeseries.download.download_config import ArchiveRequest
from obsarchive.timeseries.download.lco import LcoArchive
from obsarchive.timeseries.download.online_archive import md5_of, token_of
from tests.frames_api import TOKEN, Sky, serve

START, END = datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 7, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the pauses instead of making them."""
    pauses: list[float] = []
    monkeypatch.setattr(http, "sleep", pauses.append)
    return pauses


@pytest.fixture
def sky() -> Sky:
    found = Sky()
    for number in range(7):
        found.add(f"lsc-{number:04d}-e91.fits.fz", "A", f"2024-07-01T0{number}:00:00Z")
    found.add("cpt-0001-e91.fits.fz", "B", "2024-07-01T05:00:00Z", instrument_id="sq33")
    found.add("lsc-bias-e91.fits.fz", "A", "2024-07-01T05:00:00Z", configuration_type="BIAS")
    found.add("lsc-spec-e90.fits.fz", "A", "2024-07-01T05:00:00Z", configuration_type="SPECTRUM", reduction_level=90)
    found.add("lsc-late-e91.fits.fz", "A", "2024-07-09T05:00:00Z")
    return found


@pytest.fixture
def server(sky: Sky) -> Iterator[Any]:
    found = serve(sky, page=3)
    yield found
    found.shutdown()
    found.server_close()


def client(server: Any, token: str = TOKEN, **more: Any) -> LcoArchive:
    request = ArchiveRequest.model_validate(
        {"name": "LCO", "url": f"{server.root}/", "proposals": ["A", "B"], "token_envvar": "LCO_TOKEN", **more}
    )
    return LcoArchive(request, token, 2.0)


def names(found: Any) -> list[str]:
    return [frame.name for frame in found]


def test_every_page_of_every_level_comes(server: Any, sky: Sky) -> None:
    both = client(server, reduction_level={"image": 91, "spectrum": 90})
    found = list(both.frames("A", START, END))
    assert names(found) == ["lsc-spec-e90.fits.fz", *(f"lsc-{number:04d}-e91.fits.fz" for number in range(7))]
    assert [frame.kind for frame in found] == ["spectrum", *["image"] * 7]
    assert found[1].date_utc == datetime(2024, 7, 1, tzinfo=UTC)
    assert (found[1].target, found[1].instrument, found[1].filter) == ("OGLE-2024-BLG-0001", "fa15", "ip")
    assert names(both.frames("B", START, END)) == ["cpt-0001-e91.fits.fz"]
    assert len([path for path, _, _ in sky.asked if path == "/frames/"]) == 1 + 3 + 1 + 1


def test_older_field_names_are_understood(server: Any, sky: Sky) -> None:
    old = {"OBSTYPE": "EXPOSE", "OBJECT": "M 5", "INSTRUME": "fa03", "FILTER": "gp"}
    new = {"configuration_type": None, "target_name": None, "instrument_id": None, "primary_optical_element": None}
    sky.add("old.fits.fz", "C", "2024-07-01T05:00:00Z", **old, **new)
    (found,) = client(server).frames("C", START, END)
    assert (found.target, found.instrument, found.filter) == ("M 5", "fa03", "gp")


def test_a_wrong_token_is_told_at_once(server: Any, impatient: list[float]) -> None:
    with pytest.raises(Refused, match=r"refuses the token \(LCO_TOKEN\): 401"):
        list(client(server, "wrong").frames("A", START, END))
    assert impatient == []


def test_it_waits_as_long_as_it_is_told_to(server: Any, sky: Sky, impatient: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    sky.troubles = [(429, {"Retry-After": "17"}), (503, {"Retry-After": soon}), (502, {}), (429, {"Retry-After": "x"})]
    assert len(list(client(server).frames("B", START, END))) == 1
    assert impatient[0] == 17
    assert 25 < impatient[1] <= 30
    assert impatient[2] < impatient[3], "without a word it waits longer each time"


def test_it_gives_up_in_the_end(server: Any, sky: Sky, impatient: list[float]) -> None:
    sky.troubles = [(500, {})] * 50
    with pytest.raises(ArchiveUnavailable, match="answered 500, 6 times"):
        list(client(server).frames("B", START, END))
    assert len(impatient) == 5


def test_nobody_there(server: Any) -> None:
    lost = client(server, url="http://127.0.0.1:9/")
    with pytest.raises(ArchiveUnavailable, match="ConnectError"):
        list(lost.frames("A", START, END))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b.fits", ".hidden", "", ".."])
def test_a_name_that_is_no_file_name_is_refused(server: Any, sky: Sky, name: str) -> None:
    sky.add("x", "D", "2024-07-01T05:00:00Z")
    sky.frames[-1] |= {"filename": name, "basename": name, "version_set": []}
    with pytest.raises(ArchiveUnavailable, match="no name of a file"):
        list(client(server).frames("D", START, END))


def test_a_broken_transfer_goes_on_where_it_broke(server: Any, sky: Sky, tmp_path: Path) -> None:
    lco = client(server)
    (frame,) = lco.frames("B", START, END)
    sky.broken[frame.name] = 2
    path = tmp_path / "frame.part"
    for _ in range(2):
        with pytest.raises(ArchiveUnavailable, match="the transfer broke"):
            lco.fetch(frame, path)
    half = path.stat().st_size
    assert 0 < half < len(sky.contents[frame.name])
    lco.fetch(frame, path)
    assert path.read_bytes() == sky.contents[frame.name]
    assert sky.asked[-1][2]["range"] == f"bytes={half}-"


def test_wrong_bytes_are_thrown_away(server: Any, sky: Sky, tmp_path: Path) -> None:
    lco = client(server)
    (frame,) = lco.frames("B", START, END)
    path = tmp_path / "frame.part"
    path.write_bytes(b"x" * 10)
    with pytest.raises(ArchiveUnavailable, match="checksum"):
        lco.fetch(frame, path)
    assert not path.exists()
    lco.fetch(frame, path)
    assert md5_of(path) == frame.md5
    lco.fetch(frame, path)
    assert path.read_bytes() == sky.contents[frame.name], "what is whole already stays"


@pytest.mark.parametrize("url", ["", "/data/frame.fits.fz", "file:///etc/passwd"])
def test_a_frame_without_an_address_is_not_asked_for(server: Any, sky: Sky, tmp_path: Path, url: str) -> None:
    lco = client(server)
    (frame,) = lco.frames("B", START, END)
    n_asked = len(sky.asked)
    with pytest.raises(ArchiveUnavailable, match="gives no address"):
        lco.fetch(replace(frame, url=url), tmp_path / "frame.part")
    assert len(sky.asked) == n_asked
    assert not list(tmp_path.iterdir())


def test_the_token_goes_to_the_archive_only(server: Any, sky: Sky) -> None:
    other = serve(Sky())
    sky.frames = []
    elsewhere = client(server)
    elsewhere.line._headers(f"{other.root}/frames/")
    assert elsewhere.line._headers(f"{server.root}/frames/") == {"Authorization": f"Token {TOKEN}"}
    assert elsewhere.line._headers(f"{other.root}/frames/") == {}
    assert elsewhere.line._headers(f"https://127.0.0.1:{server.server_port}/frames/") == {}
    other.shutdown()
    other.server_close()


def test_the_token_comes_from_the_environment() -> None:
    request = ArchiveRequest(name="LCO", url="https://a.example.org", proposals=["A"], token_envvar="LCO_TOKEN")
    assert token_of(request, {"LCO_TOKEN": "x"}) == "x"
    with pytest.raises(ConfigError, match="LCO_TOKEN is not set"):
        token_of(request, {})
