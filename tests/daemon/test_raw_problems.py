"""Raw files that are not understood: named with their reason wherever one looks, once, until they are corrected."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.cli.status import _steps_in_words
from obsarchive.config.model import Config
from obsarchive.core.documents import Night
from obsarchive.core.raw_problems import by_kind
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.notifications import Alerts
from obsarchive.daemon.raw_scanner import Scanner
from obsarchive.store import Store

NIGHT = "20260314"
LONG_AGO = time.time() - 30 * 86400


class Site:
    """An archive of a camera whose headers say what a file is."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.store = store
        camera = "obsarchive.instruments.HeaderDriven"
        roots = [{"path": str(folder / name), "instrument": camera} for name in ("raw", "more")]
        places = {name: str(folder / name) for name in ("archive", "tmp", "logs")}
        recipient = {"programs": "all", "webhook": "http://127.0.0.1:9/"}
        self.config = Config.model_validate(
            {"paths": {"raw": roots, **places}, "pipelines": [], "alerts": {"recipients": [recipient]}}
        )
        for root in self.config.paths.raw:
            (root.path / NIGHT).mkdir(parents=True)
        self.restart()

    def restart(self) -> None:
        self.ingest = Ingest(self.config, self.store, Alerts(self.config, self.store.outbox))
        self.scanners = [Scanner(root, 0.0) for root in self.config.paths.raw]

    def put(self, name: str, root: int = 0, **keys: object) -> Path:
        """Write a frame; two underscores stand for a hyphen."""
        named = {"IMAGETYP": "light", "OBJECT": "M67", "FILTER": "V", "EXPTIME": 60.0, **keys}
        cards = fits.Header({key.replace("__", "-"): value for key, value in named.items()})
        path = self.config.paths.raw[root].path / NIGHT / name
        fits.PrimaryHDU(np.zeros((4, 5), np.uint16), cards).writeto(path, overwrite=True)
        return path

    def look(self) -> None:
        for scanner in self.scanners:
            for listing in scanner.changed():
                self.ingest.night(listing)

    def names(self) -> list[str]:
        return sorted(observation.id for observation in self.store.observations.of_night(NIGHT))

    def problems(self) -> dict[str, str]:
        night = Night(self.store.nights.find(NIGHT))
        found = {problem.name: problem.reason for problem in night.problems()}
        assert len(found) == night.problems_count
        return found

    def events(self) -> list[str]:
        return [event["message"] for event in self.store.outbox.untold("x", {"event": "not understood"})]


@pytest.fixture
def site(tmp_path: Path, store: Store) -> Site:
    return Site(tmp_path, store)


def test_dates_as_cameras_write_them(site: Site) -> None:
    dates = {
        "space": [{"DATE__OBS": f"2026-03-14 21:1{i}:00.0"} for i in range(3)],
        "sixty": [{"DATE__OBS": f"2026-03-14T21:2{i}:60.0"} for i in range(3)],
        "apart": [{"DATE__OBS": "2026-03-14", "UT": "21:59:60.0"}] * 3,
        "old": [{"DATE__OBS": "14/03/26", "TIME__OBS": "21:30:00"}] * 3,
        "unpadded": [{"DATE__OBS": "2026-03-14", "UT": "3:04:05.5"}] * 3,
    }
    for name, exposures in dates.items():
        for number, keys in enumerate(exposures):
            site.put(f"{name}_{number}.fits", OBJECT=name, **keys)
    site.look()
    assert site.names() == [
        "1_apart_CCD_V_o_20260314_220000.000000",
        "1_old_CCD_V_o_20260314_213000.000000",
        "1_sixty_CCD_V_o_20260314_212100.000000",
        "1_space_CCD_V_o_20260314_211000.000000",
        "1_unpadded_CCD_V_o_20260314_030405.500000",
    ]
    assert all(len(observation.raw_files) == 3 for observation in site.store.observations.of_night(NIGHT))
    assert site.problems() == {}


def test_problems_are_news_once_and_go_when_corrected(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.put("a.fits", DATE__OBS="2026-03-14T21:00:00")
    for number in (1, 2):
        site.put(f"date_{number}.fits", DATE__OBS=f"2026-03-{40 + number}T21:00:00")
    site.put("focus.fits", IMAGETYP="focus", DATE__OBS="2026-03-14T21:00:00")
    section = site.put("section.FIT", TRIMSEC="[1:6,*]", DATE__OBS="2026-03-14T21:00:00")
    folder = section.parent
    (folder / "empty.fits").write_text("")
    (folder / "packed.fits.xz").write_text("")
    for silent in ("notes.txt", "preview.jpg", "._a.fits", "a.fits.md5"):
        (folder / silent).write_text("nothing")
    site.look()
    reasons = site.problems()
    assert {name: reason.split(";")[0] for name, reason in reasons.items()} == {
        "date_1.fits": "DATE-OBS is '2026-03-41T21:00:00', which is no day of the calendar",
        "date_2.fits": "DATE-OBS is '2026-03-42T21:00:00', which is no day of the calendar",
        "empty.fits": "expected a FITS header, found nothing",
        "focus.fits": "IMAGETYP is 'focus', a kind that no setting names: add it to science, bias, dark, flat, "
        "seeing or ignored",
        "packed.fits.xz": "packed as .xz, expected .bz2, .gz, .fz or a plain FITS file: pack it again",
        "section.FIT": "TRIMSEC is '[1:6,*]', not within the frame (5 columns and 4 rows)",
    }
    warned = [record.getMessage() for record in caplog.records if "is not understood" in record.getMessage()]
    assert sorted(warned) == [f"{folder}: {name} is not understood: {reasons[name]}" for name in sorted(reasons)]
    events = site.events()
    assert len(events) == len(by_kind(Night(site.store.nights.find(NIGHT)).problems())) == 5
    assert any(text.startswith("2 raw file(s) not understood (date_1.fits, date_2.fits): DATE-OBS") for text in events)
    assert f"raw files:focus.fits\tnot understood\t{reasons['focus.fits']}\n" in _steps_in_words(NIGHT, site.store)
    caplog.clear()
    site.restart()
    site.put("focus_2.fits", IMAGETYP="focus", DATE__OBS="2026-03-14T21:00:00")
    site.look()
    assert [record.args[1] for record in caplog.records if record.levelname == "WARNING"] == ["focus_2.fits"]
    assert site.events() == events, "of the same night and reason"
    site.put("date_1.fits", DATE__OBS="2026-03-14T21:01:00")
    site.put("section.FIT", TRIMSEC="[5:1,*]", DATE__OBS="2026-03-14T21:02:00")
    for gone in ("empty.fits", "packed.fits.xz", "focus.fits", "focus_2.fits", "date_2.fits"):
        (folder / gone).unlink()
    site.look()
    assert site.problems() == {}
    assert [path.name for path in site.store.observations.of_night(NIGHT)[0].raw_files] == [
        "a.fits",
        "date_1.fits",
        "section.FIT",
    ]


def test_what_lies_there_for_long_is_no_alert(site: Site) -> None:
    path = site.put("focus.fits", IMAGETYP="focus")
    os.utime(path, (LONG_AGO, LONG_AGO))
    site.look()
    assert list(site.problems()) == ["focus.fits"]
    assert site.events() == []


def test_a_night_in_two_folders_keeps_the_problems_of_both(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.put("one.fits", root=0, DATE__OBS="1970-01-01T00:01:00")
    other = site.put("two.fits", root=1, DATE__OBS="1970-01-01T00:02:00")
    site.look()
    site.restart()
    caplog.clear()
    site.look()
    assert sorted(site.problems()) == ["one.fits", "two.fits"]
    assert caplog.records == []
    other.unlink()
    site.look()
    assert list(site.problems()) == ["one.fits"]


def test_a_file_that_cannot_be_read_now_may_be_later(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = site.put("a.fits", DATE__OBS="2026-03-14T21:00:00")
    camera = site.scanners[0].instrument
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert camera.identify(path).problem == "a.fits cannot be read: [Errno 5] Input/output error"
    assert camera.identify(path).kind == "science"
