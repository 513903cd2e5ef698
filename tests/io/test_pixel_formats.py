"""Files of the real fpack, pixels without a value, compressed streams with something between them."""

import bz2
import gzip
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.errors import BadRawData
from obsarchive.instruments.base import stem
from obsarchive.io import compression
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import read_header, scan

COUNTS = np.random.default_rng(1).poisson(1000, (5, 40, 64))
needs_fpack = pytest.mark.skipif(shutil.which("fpack") is None, reason="needs fpack (libcfitsio-bin)")


def frames_in(path: Path) -> np.ndarray:
    with Frames([unpack(path, path.parent / "scratch")]) as frames:
        return np.array(list(frames))


def fpacked(path: Path, *options: str) -> Path:
    subprocess.run(["fpack", *options, path], check=True)
    return path.with_name(f"{path.name}.fz")


# ------------------------------------------------------------------------------------- fpack


@needs_fpack
@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8", "int32", "float32"])
@pytest.mark.parametrize("extend", [True, False])
@pytest.mark.parametrize("planes", [1, 5])
def test_a_packed_primary_image(tmp_path, dtype, extend, planes):
    truth = (COUNTS[:planes] % 200).astype(dtype)
    hdu = fits.PrimaryHDU(truth[0] if planes == 1 else truth, fits.Header({"OBJECT": "M 13", "NFRAMES": planes}))
    path = tmp_path / "a.fits"
    hdu.writeto(path)
    if not extend:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"EXTEND  =                    T", b"EXTENT  =                    T", 1))
    packed = fpacked(path, *(["-g", "-q", "0"] if dtype == "float32" else []))
    np.testing.assert_array_equal(frames_in(packed), truth.astype(np.float32))
    header = read_header(packed)
    assert (header["OBJECT"], header["NAXIS1"], header["NAXIS2"]) == ("M 13", 64, 40)
    assert scan(unpack(packed, tmp_path / "scratch")).expected == planes


@needs_fpack
def test_a_packed_file_of_extensions(tmp_path):
    truth = COUNTS.astype(np.uint16)
    exposures = [fits.ImageHDU(frame) for frame in truth]
    fits.HDUList([fits.PrimaryHDU(), *exposures]).writeto(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU(truth[0]), *exposures[1:]]).writeto(tmp_path / "b.fits")
    for name in ("a.fits", "b.fits"):
        np.testing.assert_array_equal(frames_in(fpacked(tmp_path / name)), truth.astype(np.float32))


@needs_fpack
def test_packed_planes(tmp_path):
    planes = [("SCI", COUNTS[0].astype(np.float32)), ("BPM", (COUNTS[0] < 920).astype(np.uint8))]
    hdus = [fits.ImageHDU(data, name=name) for name, data in planes]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    found = frames_in(fpacked(tmp_path / "a.fits", "-g", "-q", "0"))
    np.testing.assert_array_equal(found, np.where(COUNTS[:1] < 920, np.nan, COUNTS[:1].astype(np.float32)))


# ------------------------------------------------------------------------------------- BLANK


def put_blank(path: Path, stored: np.ndarray, **cards: float) -> Path:
    """A file with BLANK, byte by byte as cameras write it."""
    header = fits.Header()
    header["SIMPLE"], header["BITPIX"], header["NAXIS"] = True, 8 * stored.dtype.itemsize, 2
    header["NAXIS1"], header["NAXIS2"] = stored.shape[::-1]
    header.update(cards)
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(header.tostring().encode() + data + bytes(-len(data) % 2880))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
@pytest.mark.parametrize("scaling", [{}, {"BZERO": 32768, "BSCALE": 1}, {"BZERO": 0, "BSCALE": 0.5}])
def test_pixels_without_a_value_are_not_numbers(tmp_path, dtype, scaling):
    blank = int(np.iinfo(dtype).min)
    stored = np.full((32, 40), 100, dtype)
    stored[5, 6] = stored[31, 0] = blank
    path = put_blank(tmp_path / "a.fits", stored, BLANK=blank, **scaling)
    with Frames([path]) as frames:
        assert frames.dtype == np.float32
        expected = np.where(
            stored == blank, np.nan, stored.astype(float) * scaling.get("BSCALE", 1) + scaling.get("BZERO", 0)
        )
        np.testing.assert_array_equal(frames.read(0), expected.astype(np.float32))
        np.testing.assert_array_equal(frames.rows(4, 7)[0], expected[4:7].astype(np.float32))
        np.testing.assert_array_equal(frames.window(0, 4, 7, 5, 9), expected[4:7, 5:9].astype(np.float32))


def test_unsigned_counts_with_blank_still_have_a_greatest_value(tmp_path):
    path = put_blank(tmp_path / "a.fits", np.zeros((32, 40), np.int16), BLANK=-32768, BZERO=32768)
    with Frames([path]) as frames:
        assert frames.saturation == 65535


def test_a_blank_that_cannot_be_stored_means_nothing(tmp_path):
    path = put_blank(tmp_path / "a.fits", np.full((32, 40), 7, np.int16), BLANK=65535)
    with Frames([path]) as frames:
        assert frames.dtype == np.int16


@needs_fpack
def test_packed_pixels_without_a_value(tmp_path):
    stored = COUNTS[0].astype(np.int16)
    stored[3, 4] = -32768
    path = put_blank(tmp_path / "a.fits", stored, BLANK=-32768)
    assert np.argwhere(np.isnan(frames_in(fpacked(path))[0])).tolist() == [[3, 4]]


# ------------------------------------------------------------------------------------- streams


def two_streams() -> tuple[bytes, bytes]:
    """Six frames in extensions, cut between the third and the fourth."""
    hdus = fits.HDUList([fits.PrimaryHDU(COUNTS[0].astype(np.uint16))])
    hdus += [fits.ImageHDU(COUNTS[i % 5].astype(np.uint16)) for i in range(5)]
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    plain = buffer.getvalue()
    cut = len(plain) // 2
    assert plain[cut : cut + 8] == b"XTENSION"
    return plain[:cut], plain[cut:]


@pytest.mark.parametrize("programs", [("lbzip2", "bzip2"), ("bzip2",), ()])
@pytest.mark.parametrize(
    ("between", "behind"), [(b"", b""), (bytes(512), b""), (b"", bytes(3)), (bytes(9), bytes(700))]
)
def test_streams_with_padding_are_all_read(tmp_path, monkeypatch, programs, between, behind):
    installed = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: installed(name) if name in programs else None)
    for ending, compress in ((".bz2", bz2.compress), (".gz", gzip.compress)):
        path = tmp_path / f"a.fits{ending}"
        path.write_bytes(between.join(map(compress, two_streams())) + behind)
        assert len(frames_in(path)) == 6


@pytest.mark.parametrize("chunk", [1, 7, 16, 61, 4096])
def test_streams_are_found_wherever_a_file_is_cut_into_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(compression, "CHUNK", chunk)
    first, second = map(bz2.compress, two_streams())
    path = tmp_path / "a.fits.bz2"
    for padding in range(12):
        path.write_bytes(first + bytes(padding) + second)
        assert compression._streams_follow(path) == (padding == 0)
    path.write_bytes(first + second + b"\0")
    assert not compression._streams_follow(path)


def test_a_large_packed_file_is_not_held_in_memory(tmp_path):
    path = tmp_path / "a.fits.bz2"
    path.write_bytes(bz2.compress(b"") * 5_000_000)
    child = (
        "import resource, sys; from pathlib import Path; from obsarchive.io.compression import _streams_follow as f; "
    )
    child += "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); "
    child += "f(Path(sys.argv[1])); print(peak() - before)"
    done = subprocess.run([sys.executable, "-c", child, str(path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20_000, "kB of a file of 70 MB"


@pytest.mark.parametrize("programs", [("lbzip2", "bzip2"), ()])
@pytest.mark.parametrize("junk", [b"rubbish of a copy that failed", b"B", bytes(10) + b"BZh9 and more"])
def test_streams_with_something_else_are_refused(tmp_path, monkeypatch, programs, junk):
    installed = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: installed(name) if name in programs else None)
    first, second = two_streams()
    for ending, compress in ((".bz2", bz2.compress), (".gz", gzip.compress)):
        path = tmp_path / f"a.fits{ending}"
        for content in (compress(first) + junk + compress(second), compress(first + second) + junk):
            path.write_bytes(content)
            with pytest.raises(BadRawData, match=rf"^a\.fits\{ending}: expected"):
                unpack(path, tmp_path / "scratch")


# ------------------------------------------------------------------------------------- packed otherwise than named


def packed_streams() -> dict[str, bytes]:
    truth, plain, tiles = COUNTS[0].astype(np.uint16), io.BytesIO(), io.BytesIO()
    fits.PrimaryHDU(truth).writeto(plain)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(truth)]).writeto(tiles)
    streams = {"plain": plain.getvalue(), "tiles": tiles.getvalue()}
    for name, content in tuple(streams.items()):
        streams |= {f"{name} gz": gzip.compress(content), f"{name} bz2": bz2.compress(content)}
    return streams


@pytest.mark.parametrize("content", ["plain", "plain gz", "plain bz2", "tiles", "tiles gz", "tiles bz2"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".fz", ".fz.gz"])
def test_the_contents_say_how_a_file_is_packed(tmp_path, content, suffix):
    path = tmp_path / f"a.fits{suffix}"
    path.write_bytes(packed_streams()[content])
    np.testing.assert_array_equal(frames_in(path), COUNTS[:1].astype(np.float32))
    header = read_header(path)
    assert (header["NAXIS1"], header["NAXIS2"]) == (64, 40)
    assert stem(path.name) == "a"


def test_tiles_cut_short_within_a_stream(tmp_path):
    path = tmp_path / "a.fits.fz.gz"
    path.write_bytes(gzip.compress(packed_streams()["tiles"][:-2880]))
    with pytest.raises(BadRawData, match=r"^a\.fits\.fz\.gz: .*expected \d+ bytes, found"):
        frames_in(path)
    assert not list((tmp_path / "scratch").iterdir())
