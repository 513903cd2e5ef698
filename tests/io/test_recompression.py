"""Raw files as tiles: the real fpack and funpack, every pixel and card again."""

import bz2
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.cli.main import main
from obsarchive.errors import ArchiveError, BadRawData
from obsarchive.io import recompression
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import read_header
from obsarchive.io.recompression import packed_name, recompress

NAME = "3_HIP_1_VIC_Si_o_20260314_110427.040912.fits"
needs_fpack = pytest.mark.skipif(shutil.which("fpack") is None, reason="needs fpack (libcfitsio-bin)")


def raw_file(folder: Path, dtype: str, layout: str = "cube") -> Path:
    counts = np.random.default_rng(3).poisson(900, (4, 30, 50)).astype(dtype)
    if dtype == "float32":
        counts += np.float32(0.123)
        counts[1, 2, 3] = np.nan
    header = fits.Header({"OBJECT": "HIP 1", "EXPOSURE": 0.1165, "COMMENT": "of the night"})
    primary = fits.PrimaryHDU(counts if layout == "cube" else None, header)
    extensions = [] if layout == "cube" else [fits.ImageHDU(plane) for plane in counts]
    folder.mkdir(exist_ok=True)
    fits.HDUList([primary, *extensions]).writeto(folder / NAME)
    packed = folder / f"{NAME}.bz2"
    packed.write_bytes(bz2.compress((folder / NAME).read_bytes()))
    (folder / NAME).unlink()
    return packed


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def frames_in(path: Path, scratch: Path) -> np.ndarray:
    with Frames([unpack(path, scratch)]) as frames:
        return np.array(list(frames))


@needs_fpack
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32"])
@pytest.mark.parametrize("layout", ["cube", "extensions"])
def test_pixels_and_headers_come_back(tmp_path, dtype, layout):
    source, target = raw_file(tmp_path / "raw", dtype, layout), tmp_path / "new" / f"{NAME}.fz"
    os.utime(source, (1_700_000_000, 1_700_000_000))
    recompress(source, target)
    assert names_in(target.parent) == [target.name]
    np.testing.assert_array_equal(frames_in(target, tmp_path / "a"), frames_in(source, tmp_path / "b"))
    assert read_header(target)["EXPOSURE"] == 0.1165
    assert target.stat().st_mtime == 1_700_000_000
    # another program reads the same
    subprocess.run(["funpack", "-O", str(tmp_path / "again.fits"), str(target)], check=True)
    np.testing.assert_array_equal(frames_in(tmp_path / "again.fits", tmp_path), frames_in(source, tmp_path / "b"))


@needs_fpack
def test_what_would_not_come_back_is_refused(tmp_path, monkeypatch):
    source, target = raw_file(tmp_path / "raw", "float32"), tmp_path / "new" / f"{NAME}.fz"
    monkeypatch.setattr(recompression, "FLOATS", ("-r", "-q", "4"))  # rounds
    with pytest.raises(BadRawData, match=r"HDU 0: other (pixels|.*)"):
        recompress(source, target)
    assert source.exists()
    assert not names_in(target.parent)


@needs_fpack
def test_a_damaged_file_and_a_table_are_refused(tmp_path):
    source = raw_file(tmp_path / "raw", "uint16")
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(BadRawData, match="expected a whole compressed stream"):
        recompress(source, tmp_path / "new" / f"{NAME}.fz")
    table = tmp_path / "raw" / NAME
    columns = [fits.Column("a", "J", array=np.arange(3))]
    fits.HDUList([fits.PrimaryHDU(np.ones((9, 9), np.int16)), fits.BinTableHDU.from_columns(columns)]).writeto(table)
    with pytest.raises(BadRawData, match="it holds tables"):
        recompress(table, tmp_path / "new" / f"{NAME}.fz")


def test_without_the_program_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ArchiveError, match="libcfitsio-bin"):
        recompress(tmp_path / NAME, tmp_path / "new.fits.fz")


def test_names_of_tiles():
    assert packed_name(f"{NAME}.bz2") == packed_name(f"{NAME}.gz") == packed_name(NAME) == f"{NAME}.fz"
    assert packed_name(f"{NAME}.fz") == packed_name("notes.txt") == ""


@needs_fpack
def test_the_command_packs_a_night_and_goes_on_where_it_stopped(tmp_path, capsys):
    night = tmp_path / "20260314"
    source = raw_file(night, "uint16")
    (night / "notes.txt").write_text("clouds")
    broken = night / "4_HIP_2_VIC_Si_o_20260314_120427.040912.fits.bz2"
    broken.write_bytes(source.read_bytes()[:-100])
    assert main(["recompress", str(night), str(tmp_path / "second")]) == 1
    assert "1 file(s) could not be packed" in capsys.readouterr().out
    assert names_in(tmp_path / "second" / "20260314") == [f"{NAME}.fz"]
    made = (tmp_path / "second" / "20260314" / f"{NAME}.fz").stat().st_ino
    broken.unlink()
    assert main(["recompress", str(night), str(tmp_path / "second")]) == 0
    assert (tmp_path / "second" / "20260314" / f"{NAME}.fz").stat().st_ino == made


def test_a_night_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["recompress", str(tmp_path / "20260314"), str(tmp_path / "second")]) != 0
    assert "20260314 cannot be read: " in capsys.readouterr().err
