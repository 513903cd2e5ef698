"""A run of the intake: everything comes once, faults cost themselves only, a killed run goes on."""

import errno
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import ascii, fits

from obsarchive.database.embedded_mongod import Server
from obsarchive.remote import http
from obsarchive.remote.http import RequestRefusedError
from obsarchive.store import Store
from obsarchive.timeseries.download.dataset_folders import INSTRUMENTS, place_of, safe
from obsarchive.timeseries.download.download_config import load
from obsarchive.timeseries.download.lco import LcoArchive
from obsarchive.timeseries.download.online_archive import Frame
from obsarchive.timeseries.download.run import Intake, unpack
from tests.forked import forkserver
from tests.frames_api import TOKEN, Sky, serve

NOW = datetime(2024, 7, 2, tzinfo=UTC)
ENVIRONMENT = {"LCO_TOKEN": TOKEN}


def frame(seed: int, target: str = "OGLE-2024-BLG-0001") -> bytes:
    """A reduced frame as the archive keeps it: an empty primary HDU, then a compressed image."""
    data = np.random.default_rng(seed).normal(100, 5, (30, 40)).astype(np.float32)
    header = fits.Header({"OBJECT": target, "RA": "17:50:00.0", "DEC": "-29:00:00.0", "EXTNAME": "SCI"})
    table = fits.BinTableHDU(np.array([(1.0, 2.0)], [("x", "f4"), ("y", "f4")]), name="CAT")
    buffer = BytesIO()
    image = fits.CompImageHDU(data, header, compression_type="RICE_1", quantize_level=64)
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(buffer)
    return buffer.getvalue()


@pytest.fixture
def sky(monkeypatch: pytest.MonkeyPatch) -> Sky:
    monkeypatch.setattr(http, "sleep", lambda _: None)
    found = Sky()
    for number in range(5):
        found.add(f"lsc-{number:04d}-e91.fits.fz", "A", f"2024-07-01T0{number}:00:00Z", frame(number))
    found.add(
        "cpt-0001-e91.fits.fz", "B", "2024-07-01T05:00:00Z", frame(9), instrument_id="xx99", target_name="../../M 31"
    )
    return found


@pytest.fixture
def server(sky: Sky) -> Iterator[Any]:
    found = serve(sky, page=2)
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def request_file(server: Any, tmp_path: Path) -> Path:
    template = tmp_path / "default_red_config.yaml"
    template.write_text("target:\n  name: ''\n  RA: ''\n  Dec: ''\nphotometry:\n  aperture_arcsec: 2.0\n")
    path = tmp_path / "data_download.yaml"
    path.write_text(
        f"archives:\n  lco:\n    name: LCO\n    url: {server.root}\n    token_envvar: LCO_TOKEN\n"
        "    proposals: [A, B]\n"
        "log_dir: logs\ndata_download_dir: incoming\ndata_reduction_dir: data\nstart_datetime: none\n"
        f"default_red_config: {template.name}\n"
    )
    return path


def run(request_file: Path, store: Store) -> str:
    return Intake(load(request_file), store.frames, ENVIRONMENT).run(NOW).text()


def test_every_proposal_comes_once_and_is_sorted(request_file: Path, store: Store, sky: Sky, tmp_path: Path) -> None:
    assert run(request_file, store) == "6 fetched, 5 sorted, 1 unsorted"
    dataset = tmp_path / "data" / "OGLE-2024-BLG-0001" / "sinistro" / "ip"
    assert sorted(path.name for path in dataset.iterdir()) == [
        *(f"lsc-{number:04d}-e91.fits" for number in range(5)),
        "reduction_config.yaml",
    ]
    with fits.open(dataset / "lsc-0003-e91.fits") as plain, fits.open(BytesIO(frame(3))) as packed:
        assert plain[0].header["OBJECT"] == "OGLE-2024-BLG-0001"
        assert np.array_equal(plain[0].data, packed[1].data)
        assert plain[1].name == "CAT"
    configuration = (dataset / "reduction_config.yaml").read_text()
    assert "name: OGLE-2024-BLG-0001" in configuration
    assert "17:50:00.0" in configuration
    assert (tmp_path / "data" / "unsorted" / "xx99" / "cpt-0001-e91.fits").exists()
    assert not list((tmp_path / "incoming").iterdir())
    listed = ascii.read(tmp_path / "logs" / "main_data_list.txt", format="basic")
    assert list(listed["file"])[:2] == ["lsc-0000-e91.fits", "lsc-0001-e91.fits"]
    asked = len(sky.asked)
    (dataset / "reduction_config.yaml").write_text("mine: true\n")
    assert run(request_file, store) == "nothing new"
    assert not any(path.startswith("/data/") for path, _, _ in sky.asked[asked:])
    assert (dataset / "reduction_config.yaml").read_text() == "mine: true\n"


def test_a_new_version_replaces_the_old(request_file: Path, store: Store, sky: Sky, tmp_path: Path) -> None:
    run(request_file, store)
    sky.add("lsc-0002-e91.fits.fz", "A", "2024-07-01T02:00:00Z", frame(77))
    assert run(request_file, store) == "1 fetched, 1 sorted"
    path = tmp_path / "data" / "OGLE-2024-BLG-0001" / "sinistro" / "ip" / "lsc-0002-e91.fits"
    with fits.open(path) as plain, fits.open(BytesIO(frame(77))) as packed:
        assert np.array_equal(plain[0].data, packed[1].data)


def test_a_locked_dataset_is_left_alone_until_the_next_run(request_file: Path, store: Store, tmp_path: Path) -> None:
    dataset = tmp_path / "data" / "OGLE-2024-BLG-0001" / "sinistro" / "ip"
    dataset.mkdir(parents=True)
    (dataset / "dataset.lock").touch()
    assert run(request_file, store) == "6 fetched, 1 unsorted, 5 waiting for a locked dataset"
    assert len(list((tmp_path / "incoming").iterdir())) == 5
    (dataset / "dataset.lock").unlink()
    assert run(request_file, store) == "5 sorted"


def test_a_frame_that_fails_costs_itself_only(request_file: Path, store: Store, sky: Sky, tmp_path: Path) -> None:
    del sky.contents["lsc-0001-e91.fits.fz"]
    sky.add("lsc-0004-e91.fits.fz", "A", "2024-07-01T04:00:00Z", b"no FITS at all")
    said = run(request_file, store)
    assert said.startswith("5 fetched, 3 sorted, 1 unsorted; 2 problem(s)")
    assert store.frames.last_success("LCO") is None
    sky.add("lsc-0001-e91.fits.fz", "A", "2024-07-01T01:00:00Z", frame(1))
    sky.add("lsc-0004-e91.fits.fz", "A", "2024-07-01T04:00:00Z", frame(4))
    assert run(request_file, store) == "2 fetched, 2 sorted"
    assert store.frames.last_success("LCO") == NOW


def test_an_archive_that_is_away_costs_itself_only(request_file: Path, store: Store) -> None:
    text = request_file.read_text()
    lost = "archives:\n  lost:\n    name: Lost\n    url: http://127.0.0.1:9/\n    proposals: [A]\n"
    lost += "  idle:\n    name: Idle\n"
    lost += "    active: False\n    url: http://127.0.0.1:9/\n    proposals: [A]\n"
    request_file.write_text(text.replace("archives:\n", lost))
    said = run(request_file, store)
    assert "6 fetched" in said
    assert "1 problem(s), the last: Lost" in said


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("M 31", "M_31"),
        ("../../etc", "etc"),
        ("a/b", "a_b"),
        ("", "unknown"),
        ("..", "unknown"),
        ("$(rm -r)", "rm_-r"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_of_targets_are_made_safe(text: str, name: str) -> None:
    assert safe(text) == name


def test_spectra_are_sorted_by_day() -> None:
    seen = {"instrument": "en06", "target": "SN 1", "filter": "air", "date_utc": NOW}
    assert place_of(seen, Path("/d"), INSTRUMENTS).folder == Path("/d/SN_1/floyds/20240702")


def test_what_is_no_fits_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.fits.fz").write_bytes(b"nothing")
    with pytest.raises(OSError, match=r"FITS|SIMPLE|empty|corrupt"):
        unpack(tmp_path / "x.fits.fz", tmp_path / "x.fits")
    assert [path.name for path in tmp_path.iterdir()] == ["x.fits.fz"]


def fetch(request_file: Path, uri: str, database: str) -> None:
    """Do in a process of its own what a run does."""
    store = Store(uri, database)
    Intake(load(request_file), store.frames, ENVIRONMENT).run(NOW)


def test_killed_at_any_moment_it_ends_the_same(
    request_file: Path, store: Store, sky: Sky, mongo_server: Server, database_name: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    for number in range(40):
        sky.add(f"more-{number:04d}-e91.fits.fz", "A", f"2024-07-01T06:{number:02d}:00Z", frame(100 + number))
    for kill in range(4):
        process = forkserver().Process(target=fetch, args=(request_file, mongo_server.uri, database_name))
        process.start()
        # somewhere in this part of the work, or at its very beginning
        wanted = 10 * kill
        while process.is_alive() and len(list((tmp_path / "data").rglob("*.fits"))) < wanted:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    run(request_file, store)
    assert run(request_file, store) == "nothing new"
    plain = list((tmp_path / "data").rglob("*.fits"))
    assert len(plain) == 46
    assert not list(tmp_path.rglob("*.part"))
    for path in plain:
        with fits.open(path) as found:
            assert found[0].data.shape == (30, 40)


def test_a_frame_that_cannot_be_sorted_is_not_fetched_again(
    request_file: Path, store: Store, sky: Sky, tmp_path: Path
) -> None:
    sky.add("lsc-0004-e91.fits.fz", "A", "2024-07-01T04:00:00Z", b"no FITS at all")
    assert "cannot be sorted" in run(request_file, store)
    asked = len(sky.asked)
    assert run(request_file, store) == "nothing new"
    assert not any(path.startswith("/data/") for path, _, _ in sky.asked[asked:])
    (known,) = store.frames.in_state("unsortable")
    assert "cannot be sorted" in known["problem"]
    assert (tmp_path / "incoming" / "lsc-0004-e91.fits.fz").exists()
    assert "unsortable" in (tmp_path / "logs" / "main_data_list.txt").read_text()
    store.frames.note("LCO", "lsc-0004-e91.fits.fz", "unsortable", version="an older one")
    assert "1 fetched" in run(request_file, store)


def test_a_full_disk_is_no_fault_of_the_frames(
    request_file: Path, store: Store, sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("obsarchive.timeseries.download.run.unpack", full)
        assert "No space left" in run(request_file, store)
    asked = len(sky.asked)
    assert run(request_file, store) == "5 sorted, 1 unsorted"
    assert not any(path.startswith("/data/") for path, _, _ in sky.asked[asked:])


@pytest.mark.parametrize("wrong", [None, "photometry: [", "target: 5\n", "photometry:\n  aperture_arcsec: -2\n"])
def test_a_template_that_is_missing_or_wrong_is_told_first_and_made_up_for(
    request_file: Path, store: Store, tmp_path: Path, wrong: str | None
) -> None:
    template = tmp_path / "default_red_config.yaml"
    right = template.read_text()
    template.unlink() if wrong is None else template.write_text(wrong)
    intake = Intake(load(request_file), store.frames, ENVIRONMENT)
    problems = intake.run(NOW).problems
    assert problems[0].startswith(f"default_red_config: {template}")
    made = tmp_path / "data" / "OGLE-2024-BLG-0001" / "sinistro" / "ip" / "reduction_config.yaml"
    assert not made.exists()
    template.write_text(right)
    assert run(request_file, store) == "nothing new"
    assert "17:50:00.0" in made.read_text()


def test_the_placeholder_of_a_label_becomes_the_name_of_the_target(
    request_file: Path, store: Store, tmp_path: Path
) -> None:
    template = tmp_path / "default_red_config.yaml"
    template.write_text(template.read_text() + "tom:\n  upload: False\n  data_label: 'TEST'\n")
    run(request_file, store)
    made = tmp_path / "data" / "OGLE-2024-BLG-0001" / "sinistro" / "ip"
    assert "data_label: OGLE-2024-BLG-0001" in (made / "reduction_config.yaml").read_text()


def test_a_tom_that_is_not_configured_is_told_before_anything_is_fetched(
    request_file: Path, store: Store, tmp_path: Path
) -> None:
    template = tmp_path / "default_red_config.yaml"
    template.write_text(template.read_text() + "tom:\n  upload: True\n  config_file: tom_config.yaml\n")
    problems = Intake(load(request_file), store.frames, ENVIRONMENT).run(NOW).problems
    assert problems == [
        f"default_red_config: {template}: tom.config_file: {tmp_path / 'tom_config.yaml'}: no such file"
    ]


def test_a_proposal_that_is_refused_costs_itself_only(request_file: Path, store: Store, sky: Sky) -> None:
    class Client(LcoArchive):
        def frames(self, proposal: str, start: datetime, end: datetime) -> Iterator[Frame]:
            if proposal == "A":
                raise RequestRefusedError("no right to see A")
            return super().frames(proposal, start, end)

    intake = Intake(load(request_file), store.frames, ENVIRONMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("obsarchive.timeseries.download.run.import_class", lambda _: Client)
        summary = intake.run(NOW)
    assert summary.text().startswith("1 fetched, 1 unsorted; 1 problem(s), the last: LCO: A: no right")
    assert store.frames.last_success("LCO") is None
