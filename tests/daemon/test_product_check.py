"""What vanished or rotted is found; what is packed is whole."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.core.rules import compile_rule
from obsarchive.daemon import product_check, tarballs
from obsarchive.daemon.product_check import missing_products, verify
from obsarchive.errors import ArchiveError
from obsarchive.execution.step_process import execute
from obsarchive.pipeline import Task
from obsarchive.pipeline.chain import ChainEntry
from tests.sample_pipelines import Toy, task_values

NIGHT = "20160925"
OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
CHAIN = [ChainEntry(Toy(), compile_rule("True"), {}, {})]


@pytest.fixture
def reduced(tmp_path: Path) -> Observation:
    """An observation whose step ``write`` was done; its products lie in the archive."""
    values = task_values(tmp_path, OBS)
    manifest = execute(Task("t", Toy, "write", **values)).record
    step = {"state": "done", "products": manifest["products"]}
    return Observation({**values["document"], "pipelined": {"toy": {"steps": {"write": step}}}})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "archive")


@pytest.fixture
def product(layout: Layout) -> Path:
    return layout.observation(NIGHT, OBS) / "toy" / f"{OBS}.txt"


def missing(observation: Observation, layout: Layout) -> list[tuple[str, tuple[str, ...]]]:
    return [(found.step.name, found.products) for found in missing_products(observation, CHAIN, layout)]


# ------------------------------------------------------------------------------------- audit


def test_what_is_there_is_not_missing(reduced, layout):
    assert missing(reduced, layout) == []


def test_a_product_that_vanished(reduced, layout, product):
    product.unlink()
    assert missing(reduced, layout) == [("write", (product.name,))]


def test_a_folder_that_vanished(reduced, layout):
    shutil.rmtree(layout.night(NIGHT))
    assert missing(reduced, layout) == [("write", (f"{OBS}.txt",))]


def test_a_product_cut_short(reduced, layout, product):
    os.truncate(product, 3)
    assert missing(reduced, layout) == [("write", (product.name,))]


@pytest.mark.parametrize("state", ["waiting", "enqueued", "failed", "rejected"])
def test_only_what_is_done_must_be_there(reduced, layout, product, state):
    product.unlink()
    reduced.document["pipelined"]["toy"]["steps"]["write"]["state"] = state
    assert missing(reduced, layout) == []


def test_a_stale_mount_is_no_missing_product(reduced, layout, monkeypatch, caplog):
    def stale(path, **_):
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(product_check.os, "stat", stale)
    assert missing(reduced, layout) == []
    assert "Stale file handle" in caplog.text


# ------------------------------------------------------------------------------------- checksums


def test_a_sound_tree_verifies(reduced, layout):
    assert list(verify(layout.root)) == []


def test_one_flipped_bit_is_found(reduced, layout, product):
    content = bytearray(product.read_bytes())
    content[4] ^= 1
    product.write_bytes(content)
    assert list(verify(layout.root)) == [(product, "differs from its checksum")]


def test_a_missing_product_is_found(reduced, layout, product):
    product.unlink()
    assert list(verify(layout.root)) == [(product, "is missing")]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", '{"products": 3}', '{"products": [3]}', '{"products": [{}]}', '{"products": [{"name": 3}]}'],
)
def test_a_damaged_manifest_is_found_and_the_rest_is_verified(reduced, layout, product, content):
    manifest = product.parent / ".write.json"
    other = product.parent / ".z_other.json"
    other.write_text(json.dumps({"products": [{"name": "gone.txt", "sha256": ""}]}))
    manifest.write_text(content)
    [damaged, gone, unknown] = verify(layout.root)
    assert damaged[0] == manifest
    assert "cannot be read" in damaged[1]
    assert gone == (product.parent / "gone.txt", "is missing")
    assert unknown == (product, "cannot be checked: its manifest is damaged")


def test_products_whose_manifests_are_all_gone_are_named(reduced, layout, product):
    (product.parent / ".write.json").unlink()
    assert list(verify(layout.root)) == [(product, "cannot be checked: there is no manifest")]


# ------------------------------------------------------------------------------------- tarballs


@pytest.fixture(params=["lbzip2", "python"])
def packer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to compress."""
    if request.param == "python":
        monkeypatch.setattr(tarballs.shutil, "which", lambda _: None)
    elif shutil.which("lbzip2") is None:
        pytest.skip("lbzip2 is not installed")
    return request.param


def test_a_tarball_holds_everything_once(reduced, layout, packer):
    folder, tarball = layout.observation(NIGHT, OBS), layout.tarball(NIGHT, OBS)
    (folder / "toy" / ".x.fits.12345678.part").write_text("unfinished")
    (folder / "link").symlink_to("/etc/passwd")
    for _ in range(2):  # the second time the tarball is there already
        size, checksum = tarballs.pack(folder, tarball)
    assert (size, checksum) == (tarball.stat().st_size, hashlib.sha256(tarball.read_bytes()).hexdigest())
    assert tarballs.members(tarball) == [f"{OBS}/{name}" for name in (f"toy/{OBS}.txt", "README.txt", "SHA256SUMS")]
    with tarfile.open(tarball, "r:bz2") as tar:  # the second opinion, on content and owners
        member = tar.getmember(f"{OBS}/toy/{OBS}.txt")
        assert tar.extractfile(member).read() == b"starlight"
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs the program sha256sum")
def test_a_tarball_says_what_it_holds_and_can_be_checked(reduced, layout, tmp_path):
    """By another program than ours, with names that it must escape."""
    (layout.observation(NIGHT, OBS) / "toy" / "odd\\ name\n100p.fits").write_bytes(b"x")
    tarball = layout.tarball(NIGHT, OBS)
    tarballs.pack(layout.observation(NIGHT, OBS), tarball, "Cite us.\n")
    with tarfile.open(tarball, "r:bz2") as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / OBS
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 0
    listed = (folder / "SHA256SUMS").read_text().splitlines()
    assert len(listed) == sum(path.is_file() for path in folder.rglob("*")) - 1
    assert (folder / "CITATION.txt").read_text() == "Cite us.\n"
    assert f"toy/{OBS}.txt  (9 bytes)" in (folder / "README.txt").read_text()
    (folder / "toy" / f"{OBS}.txt").write_bytes(b"starlighT")
    assert subprocess.run(check, cwd=folder, capture_output=True).returncode == 1


def test_the_same_products_give_the_same_tarball(reduced, layout, packer, tmp_path):
    folder = layout.observation(NIGHT, OBS)
    tarballs.pack(folder, tmp_path / "one")
    tarballs.pack(folder, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_tarball_that_cannot_be_finished_leaves_the_old_one(reduced, layout, packer, monkeypatch):
    folder, tarball = layout.observation(NIGHT, OBS), layout.tarball(NIGHT, OBS)
    tarball.write_bytes(b"the old one")

    def breaks(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarballs.tarfile.TarFile, "addfile", breaks)
    with pytest.raises(ArchiveError, match="no space left"):
        tarballs.pack(folder, tarball)
    assert tarball.read_bytes() == b"the old one"
    assert list(folder.glob(".*.part")) == []


def test_a_packer_that_dies_is_an_error(reduced, layout, tmp_path, monkeypatch):
    fake = tmp_path / "lbzip2"
    fake.write_text("#!/bin/sh\ncat > /dev/null\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(tarballs.shutil, "which", lambda _: str(fake))
    tarball = layout.tarball(NIGHT, OBS)
    with pytest.raises(ArchiveError, match="exit code 3"):
        tarballs.pack(layout.observation(NIGHT, OBS), tarball)
    assert not tarball.exists()


# ------------------------------------------------------------------------------------- sweeping


def test_only_old_leftovers_are_swept(tmp_path):
    old, new = tmp_path / "a" / ".x.fits.1.part", tmp_path / ".y.fits.2.part"
    product = tmp_path / "a" / "x.fits"
    old.parent.mkdir()
    for path, time_s in ((old, 100.0), (new, 300.0), (product, 100.0)):
        path.touch()
        os.utime(path, (time_s, time_s))
    assert tarballs.sweep_leftovers(tmp_path, older_than=200.0) == 1
    assert (old.exists(), new.exists(), product.exists()) == (False, True, True)


def test_unpacked_raw_files_of_one_subject_are_swept(tmp_path):
    for name in (OBS, "other"):
        (tmp_path / "unpacked" / name).mkdir(parents=True)
    tarballs.sweep(tmp_path, OBS)
    tarballs.sweep(tmp_path, "never there")
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["other"]


def test_what_killed_runs_left_among_temporary_files_is_swept(tmp_path):
    for name, time_s in (("unpacked/old", 100.0), ("steps/old", 100.0), ("steps/new", 300.0), ("dask/old", 100.0)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "frames.fits").touch()
        os.utime(folder, (time_s, time_s))
    tarballs.sweep_tmp(tmp_path, older_than=200.0)
    assert sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.fits")) == [
        "dask/old",
        "steps/new",
    ]
    tarballs.sweep_tmp(tmp_path / "none", older_than=200.0)


def test_leftovers_at_the_root_are_swept_without_a_walk_through_the_tree(tmp_path):
    for path in (tmp_path / ".psf_library.fits.1.part", tmp_path / "20160925" / ".x.fits.2.part"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (100.0, 100.0))
    assert tarballs.sweep_leftovers(tmp_path, older_than=200.0, nested=False) == 1
    assert [path.name for path in tmp_path.rglob("*.part")] == [".x.fits.2.part"]
