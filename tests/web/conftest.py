"""A portal on a real database, with users of competing programmes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_archive import EARLIER, HOSTILE, NIGHT, ToyArchive, make_config
from visitors import CHEAP, Visitor, make_app, served

from obsarchive.accounts import users as accounts
from obsarchive.store import Store
from obsarchive.web import Portal
from surveys import dataset


@pytest.fixture(autouse=True)
def cheap_passwords(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash in no time where the hash is not what is tested."""
    if request.module.__name__ != "test_accounts":
        monkeypatch.setattr(accounts, "_HASHER", CHEAP)


@pytest.fixture(autouse=True)
def own_survey_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every portal find survey data where its own configuration says."""
    monkeypatch.setattr(dataset, "DATA_ROOT", None)


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Portal:
    return make_app(store, make_config(tmp_path))


@pytest.fixture
def archive(app: Portal) -> SimpleNamespace:
    """A night of two programmes, one observation of a third one that names its PI, and an earlier night."""
    toy = ToyArchive(app.store, app.settings)
    own = toy.observation("3", "HD_140283", 0)
    failed = toy.observation("3", "GJ_436", 4)
    hostile = toy.observation(
        "3",
        "evil",
        6,
        name=HOSTILE,
        comment=HOSTILE,
        fits_header=[{"key": "OBJECT", "value": HOSTILE, "comment": HOSTILE}],
    )
    foreign = toy.observation("4", "351_Yrsa", 2)
    named = toy.observation("5", "KOI-2626", 8, pi=["zoe", "pia"])
    earlier = toy.observation("3", "Vega", 0, night=EARLIER)
    toy.reduced(own, 0)
    toy.reduced(foreign, 3)
    for name in (own, foreign):
        toy.raw_file(name, f"{name}.fits.bz2", f"raw frames of {name}".encode())
    toy.step(failed, "bright_star", "reduce", state="rejected", message="no star brighter than 5 sigma")
    toy.step(hostile, "bright_star", "reduce", state="failed", message=HOSTILE, retries=1)
    toy.calibration(NIGHT, [own, foreign])
    datasets = toy.dataset("3", "OGLE-2024-BLG-0034"), toy.dataset("4", "MOA-2024-BLG-0007")
    found = {"own": own, "failed": failed, "hostile": hostile, "foreign": foreign, "named": named, "earlier": earlier}
    return SimpleNamespace(toy=toy, datasets=datasets, **found)


@pytest.fixture
def sources(archive: SimpleNamespace) -> SimpleNamespace:
    """Sources of surveys, by what they are: some of a project of everybody, one of each programme."""
    return SimpleNamespace(**archive.toy.surveys())


@pytest.fixture
def address(app: Portal) -> Iterator[str]:
    """Serve the portal on loopback."""
    with served(app) as found:
        yield found


@pytest.fixture
def anybody(app: Portal) -> Visitor:
    return Visitor(app.test_client())


@pytest.fixture
def as_user(app: Portal) -> Callable[[str], Visitor]:
    """Return a browser in which somebody is logged in."""

    def enter(name: str) -> Visitor:
        visitor = Visitor(app.test_client())
        assert visitor.log_in(name).status_code == 302
        return visitor

    return enter
