"""Raw files and master frames: bytes as on disk, the rule of the products, and what happens when they have gone."""

import hashlib
import io
import tarfile

import pytest
from test_downloads import TOKEN, headers, needs_curl, run, script_of  # noqa: F401 - a fixture among them
from toy_archive import NIGHT

from obsarchive.core.documents import utc_now

DARK = b"SIMPLE  =                    T master dark"
QUARTER = b"SIMPLE  =                    T master dark of quarter frames"


@pytest.fixture
def with_master(app, archive):
    """Let the night have the master dark that calibrated the observations, and that of quarter frames in their mode."""
    folder = app.layout.calibration(NIGHT)
    records = [archive.toy.product(folder, "dark_6.fits", DARK), archive.toy.product(folder, "dark_64.fits", QUARTER)]
    step = {"state": "done", "products": records, "results": {}, "finished": utc_now()}
    app.store.nights.set_fields(NIGHT, {"calib.steps.darks": step})
    app.store.observations.set_fields(archive.own, {"mode": "6"})
    return archive


def test_a_raw_file_comes_as_it_is_on_disk(app, archive, as_user) -> None:
    path = archive.toy.raw_file(archive.own, f"{archive.own}.fits.bz2", bytes(range(256)) * 4096)
    ana = as_user("ana")
    address = f"/observation/{archive.own}/raw/{path.name}"
    assert f'href="{address}"' in ana.get(f"/observation/{archive.own}").text
    answer = ana.get(address)
    assert answer.data == path.read_bytes()
    assert path.name in answer.headers["Content-Disposition"]
    assert ana.get(address, headers={"Range": "bytes=5-9"}).data == path.read_bytes()[5:10]
    assert [as_user(who).get(address).status_code for who in ("ben", "admin")] == [404, 200]


def test_a_raw_file_that_has_gone_is_named(app, archive, as_user) -> None:
    """The second file of the toy archive's observations is not there."""
    ana = as_user("ana")
    gone = f"{archive.own}_0.fits.bz2"
    answer = ana.get(f"/observation/{archive.own}/raw/{gone}")
    assert answer.status_code == 410
    assert f"{gone} is not on the disk of the archive any more" in answer.text
    page = ana.get(f"/observation/{archive.own}").text
    assert "not on disk any more" in page
    assert f"raw/{gone}" not in page
    assert ana.get(f"/observation/{archive.own}/raw/other.fits").status_code == 404


@pytest.mark.parametrize("way", ["outside of the raw folders", "by dots", "by a link"])
def test_nothing_but_raw_folders_is_read(app, archive, as_user, tmp_path, way: str) -> None:
    secret = tmp_path / "outside" / "secret.fits"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    folder = archive.toy.raw / NIGHT
    places = {"outside of the raw folders": secret.parent, "by dots": folder / ".." / ".." / "outside"}
    if way == "by a link":
        (folder / "secret.fits").symlink_to(secret)
    fields = {"raw_data.data": ["secret.fits"], "raw_data.location": ["host", str(places.get(way, folder))]}
    app.store.observations.set_fields(archive.own, fields)
    answer = as_user("admin").get(f"/observation/{archive.own}/raw/secret.fits")
    assert answer.status_code == 410
    assert b"secret\n" not in answer.data


def test_a_master_frame_comes_with_the_observation(app, with_master, as_user) -> None:
    ana = as_user("ana")
    address = f"/night/{NIGHT}/product/calib/dark_6.fits"
    assert f'href="{address}"' in ana.get(f"/observation/{with_master.own}").text
    answer = ana.get(address)
    assert answer.data == DARK
    assert "20160925_dark_6.fits" in answer.headers["Content-Disposition"]


def test_the_master_is_the_one_that_was_used(app, with_master, as_user) -> None:
    """A quarter frame in mode 6 takes the dark 64, which its mode does not name."""
    own = with_master.own
    ana = as_user("ana")
    steps = app.store.observations.find(own)["pipelined"]["bright_star"]["steps"]
    for used, other in (("dark_6", "dark_64"), ("dark_64", "dark_6")):
        inputs = {
            f"pipelined.bright_star.steps.{name}.inputs.calibration": f"{used}:aa flat_lp600:bb" for name in steps
        }
        app.store.observations.set_fields(own, inputs)
        names = [entry["name"] for entry in ana.get(f"/api/v1/observations/{own}").json["sources"]]
        assert f"{used}.fits" in names
        assert f"{other}.fits" not in names
        assert f"calib/{other}.fits" not in ana.get(f"/observation/{own}").text
        members = ana.get(f"/download/observation/{own}.tar?raw=1").data
        assert f"calibration/{other}.fits".encode() not in members


def test_an_archive_with_raw_files_can_be_checked(app, with_master, as_user) -> None:
    own = with_master.own
    data = as_user("ana").get(f"/download/observation/{own}.tar?raw=1").data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found[f"{own}/raw/{own}.fits.bz2"] == f"raw frames of {own}".encode()
    assert found[f"{own}/calibration/dark_6.fits"] == DARK
    sums = dict(line.split("  ")[::-1] for line in found[f"{own}/SHA256SUMS"].decode().splitlines())
    assert {f"{own}/{name}": digest for name, digest in sums.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items() if not name.endswith("SHA256SUMS")
    }
    text = found[f"{own}/README.txt"].decode()
    assert "raw file as the camera wrote it" in text
    assert "registered mean of all good frames" in text
    without = as_user("ana").get(f"/download/observation/{own}.tar").data
    assert b"raw frames of" not in without


def test_a_selection_may_have_raw_files(archive, as_user) -> None:
    data = as_user("ana").get("/download/selection.tar?done=bright_star.strehl&raw=1").data
    assert f"raw frames of {archive.own}".encode() in data
    assert f"raw frames of {archive.foreign}".encode() not in data


@needs_curl
def test_the_script_fetches_raw_files(app, with_master, address, headers, tmp_path) -> None:  # noqa: F811
    own = with_master.own
    script = script_of(address, headers, f"observation/{own}.sh?raw=1")
    for n_fetched in (9, 0):
        done = run(script, tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == n_fetched
    assert (tmp_path / own / "raw" / f"{own}.fits.bz2").read_text() == f"raw frames of {own}"
    assert (tmp_path / own / "calibration" / "dark_6.fits").read_bytes() == DARK
    (tmp_path / own / "raw" / f"{own}.fits.bz2").write_text("raw")
    assert len(run(script, tmp_path).stdout.splitlines()) == 1, "a file of another size is fetched again"
    assert TOKEN not in script


def test_the_interface_lists_raw_files_and_masters(app, with_master, as_user) -> None:
    own = with_master.own
    ana = as_user("ana")
    for address in (f"/api/v1/observations/{own}", f"/api/v1/observations/{own}/products"):
        listed = {entry["name"]: entry for entry in ana.get(address).json["sources"]}
        raw, gone, dark = (listed[name] for name in (f"{own}.fits.bz2", f"{own}_0.fits.bz2", "dark_6.fits"))
        assert ana.get(raw["url"]).data == f"raw frames of {own}".encode()
        assert raw["bytes"] == len(f"raw frames of {own}")
        assert (gone["url"], gone["bytes"]) == (None, None)
        assert dark["sha256"] == hashlib.sha256(DARK).hexdigest()
        assert dark["kind"] == "master"


def test_the_same_product_of_two_observations_has_two_names(app, archive, as_user) -> None:
    admin = as_user("admin")
    names = {
        re_name(admin.get(f"/observation/{name}/product/bright_star/100p.fits"))
        for name in (archive.own, archive.foreign)
    }
    assert names == {
        "HD_140283_20160925_030000_bright_star_100p.fits",
        "351_Yrsa_20160925_030200_bright_star_100p.fits",
    }


def re_name(answer) -> str:
    return answer.headers["Content-Disposition"].rpartition("filename=")[2].strip('"')


def test_sizes_are_shown_before_the_click(archive, as_user) -> None:
    ana = as_user("ana")
    for page in (f"/observation/{archive.own}", f"/night/{NIGHT}/downloads"):
        assert " kB" in ana.get(page).text
