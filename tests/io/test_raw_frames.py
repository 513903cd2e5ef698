"""Raw files of every form, whole and damaged.  The truth is what was written; astropy is the second opinion."""

import bz2
import errno
import gzip
import io
import json
import os
import random
import shutil
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bson
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from obsarchive.errors import ArchiveError, BadRawData, NoSpace, NotReady
from obsarchive.io import compression, hdus, raw_files, raw_headers
from obsarchive.io.raw_files import signature, unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import expected_frames, plain_cards, read_header, scan

SHAPE = (20, 30)
DTYPES = ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]


def cube(n: int = 5, dtype: str = "uint16", shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Pixels that use the whole range of their type."""
    rng = np.random.default_rng(n)
    if dtype.startswith("f"):
        return rng.normal(100, 50, (n, *shape)).astype(dtype)
    info = np.iinfo(dtype)
    pixels = rng.integers(info.min, info.max, (n, *shape), dtype=dtype, endpoint=True)
    pixels[0, 0, :2] = info.min, info.max
    return pixels


def as_extensions(frames: np.ndarray, **keys: object) -> bytes:
    hdus = fits.HDUList([fits.PrimaryHDU(frames[0]), *(fits.ImageHDU(frame) for frame in frames[1:])])
    return in_bytes(hdus, keys)


def as_cube(frames: np.ndarray, **keys: object) -> bytes:
    return in_bytes(fits.HDUList([fits.PrimaryHDU(frames)]), keys)


def in_bytes(hdus: fits.HDUList, keys: dict[str, object]) -> bytes:
    hdus[0].header.update({"OBJECT": "HD 1234", **keys})
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def pixels_of(*paths: Path) -> np.ndarray:
    with Frames(paths) as frames:
        return np.array(list(frames))


def unpacked_pixels(path: Path, folder: Path) -> np.ndarray:
    return pixels_of(unpack(path, folder))


# ------------------------------------------------------------------------------------- forms


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("write", [as_extensions, as_cube])
def test_every_pixel_type_is_read(tmp_path, dtype, write):
    truth = cube(4, dtype)
    with Frames([put(tmp_path / "a.fits", write(truth))]) as frames:
        assert (len(frames), frames.shape, frames.dtype) == (4, SHAPE, np.dtype(dtype))
        assert frames.saturation == (65535 if dtype == "uint16" else None)
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, truth[i].astype(np.float32))
        np.testing.assert_array_equal(frames.rows(3, 8), truth[:, 3:8])
        np.testing.assert_array_equal(frames.window(2, 1, 5, 7, 30), truth[2, 1:5, 7:].astype(np.float32))
        out = np.empty(SHAPE, np.float32)
        assert frames.read(1, out) is out


def test_scaled_pixels_become_float(tmp_path):
    counts = np.arange(600, dtype=np.int16).reshape(SHAPE)
    hdu = fits.PrimaryHDU(counts)
    hdu.header.update({"BSCALE": 0.5, "BZERO": 10.0})
    raw = hdu.header.tostring(padding=True).encode() + counts.astype(">i2").tobytes()
    path = put(tmp_path / "a.fits", raw + bytes(-len(raw) % 2880))
    with Frames([path]) as frames:
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames.read(0), counts * 0.5 + 10)
        np.testing.assert_array_equal(frames.rows(0, 20)[0], counts * 0.5 + 10)


def test_extensions_cubes_and_files_make_one_sequence(tmp_path):
    truth = cube(12)
    mixed = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(truth[5:8]), fits.BinTableHDU.from_columns([])])
    mixed += [fits.ImageHDU(truth[8]), fits.ImageHDU(truth[9])]
    paths = [
        put(tmp_path / "a.fits", as_extensions(truth[:5])),
        put(tmp_path / "a_0.fits", in_bytes(mixed, {})),
        put(tmp_path / "a_1.fits", as_cube(truth[10:])),
    ]
    np.testing.assert_array_equal(pixels_of(*paths), truth.astype(np.float32))


def test_files_of_different_types_are_float_together(tmp_path):
    paths = [put(tmp_path / f"{t}.fits", as_cube(cube(2, t))) for t in ("uint16", "float32")]
    with Frames(paths) as frames:
        assert frames.dtype == np.float32
        assert frames.rows(0, 4).dtype == np.float32


def test_reads_outside_the_frame_are_refused(tmp_path):
    with Frames([put(tmp_path / "a.fits", as_cube(cube()))]) as frames:
        for box in [(0, 21, 0, 5), (-1, 4, 0, 5), (0, 5, 0, 31), (0, 5, 4, 3)]:
            with pytest.raises(ValueError, match="of a frame of"):
                frames.window(0, *box)
        with pytest.raises(IndexError):
            frames.read(5)


def test_memory_does_not_follow_the_length(tmp_path):
    """One buffer and one frame, whatever the length: a sequence of 50 frames stays below four frames."""
    truth = np.zeros((50, 200, 200), np.uint16)
    path = put(tmp_path / "a.fits", as_extensions(truth))
    out = np.empty((200, 200), np.float32)
    tracemalloc.start()
    with Frames([path]) as frames:
        for i in range(len(frames)):
            frames.read(i, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 160_000


# --------------------------------------------------------------------------------- unpacking


def compressed_forms(frames: np.ndarray) -> dict[str, bytes]:
    plain = as_extensions(frames)
    tiled = io.BytesIO()
    hdus = [fits.CompImageHDU(frame, compression_type="RICE_1") for frame in frames]
    hdus[0].header.update({"OBJECT": "HD 1234", "NEXTEND": len(frames) - 1})
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tiled)
    cut = len(plain) // 2
    return {
        "a.fits": plain,
        "b.fits.bz2": bz2.compress(plain),
        "c.fits.bz2": bz2.compress(plain[:cut]) + bz2.compress(plain[cut:]),  # as parallel compressors do
        "d.fits.gz": gzip.compress(plain),
        "e.fits.fz": tiled.getvalue(),
    }


@pytest.mark.parametrize("decompressors", [("lbzip2", "bzip2"), ("bzip2",), ()])
def test_every_form_is_unpacked_with_every_decompressor(tmp_path, monkeypatch, decompressors):
    installed = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: installed(name) if name in decompressors else None)
    truth = cube(4)
    for name, content in compressed_forms(truth).items():
        path = put(tmp_path / name, content)
        np.testing.assert_array_equal(unpacked_pixels(path, tmp_path / "scratch"), truth.astype(np.float32))
        assert read_header(path)["OBJECT"] == "HD 1234"
    assert not list((tmp_path / "scratch").glob(".*"))


def test_tiled_cube_and_floats(tmp_path):
    truth = cube(3, "int16")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(truth)])
    hdus.writeto(tmp_path / "a.fits.fz")
    np.testing.assert_array_equal(unpacked_pixels(tmp_path / "a.fits.fz", tmp_path), truth.astype(np.float32))


def test_unpacked_once_until_the_raw_file_changes(tmp_path):
    path = put(tmp_path / "a.fits.gz", gzip.compress(as_cube(cube(2))))
    first = unpack(path, tmp_path / "scratch")
    stamp = first.stat().st_mtime_ns
    assert unpack(path, tmp_path / "scratch") == first
    assert first.stat().st_mtime_ns == stamp
    put(path, gzip.compress(as_cube(cube(3))))
    second = unpack(path, tmp_path / "scratch")
    assert second != first
    assert len(pixels_of(second)) == 3
    plain = put(tmp_path / "b.fits", b"")
    assert unpack(plain, tmp_path / "scratch") == plain


def test_two_at_once_both_end_well(tmp_path):
    truth = cube(6)
    path = put(tmp_path / "a.fits.bz2", bz2.compress(as_extensions(truth)))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: unpack(path, tmp_path / "scratch"), range(4)))
    assert len(set(results)) == 1
    assert os.listdir(tmp_path / "scratch") == [results[0].name]  # noqa: PTH208 - hidden files too
    np.testing.assert_array_equal(pixels_of(results[0]), truth.astype(np.float32))


@pytest.mark.parametrize("form", ["b.fits.bz2", "c.fits.bz2", "d.fits.gz", "e.fits.fz"])
@pytest.mark.parametrize("decompressors", [("lbzip2", "bzip2"), ()])
def test_cut_at_random_bytes(tmp_path, monkeypatch, form, decompressors):
    """A cut stream is bad raw data: when unpacked, or (cut between two streams) when its frames are counted."""
    installed = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: installed(name) if name in decompressors else None)
    content = compressed_forms(cube(4))[form]
    end = len(content) - (2880 if form.endswith("fz") else 2)  # the last block of a tiled file is mostly padding
    for cut in [0, 1, 3, *random.Random(1).sample(range(end), 4), end]:
        path = put(tmp_path / form, content[:cut])
        with pytest.raises(BadRawData, match=f"^{form[0]}.*(expected .* found|holds . of 4 frames)"):
            unpacked_pixels(path, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob(".*"))


def test_cut_between_two_streams_is_found_by_counting(tmp_path):
    """Each decompressor takes this for a whole file."""
    frames = cube(6)
    plain = as_extensions(frames, NEXTEND=5)
    cut = scan(put(tmp_path / "whole.fits", plain)).stacks[3].offset - 2880
    assert plain[cut : cut + 8] == b"XTENSION"
    path = put(tmp_path / "a.fits.bz2", bz2.compress(plain[:cut]))
    with pytest.raises(BadRawData, match="holds 3 of 6 frames"):
        unpacked_pixels(path, tmp_path / "scratch")
    put(path, bz2.compress(plain[:cut]) + bz2.compress(plain[cut:]))
    assert len(unpacked_pixels(path, tmp_path / "scratch")) == 6


@pytest.mark.parametrize("name", ["a.fits.bz2", "a.fits.gz", "a.fits.fz"])
@pytest.mark.parametrize("content", [b"", b"no FITS at all" * 1000])
def test_garbage(tmp_path, name, content):
    with pytest.raises(BadRawData, match=r"a\.fits"):
        unpack(put(tmp_path / name, content), tmp_path)


def test_damaged_inside(tmp_path):
    """A flipped byte is found by the checksum of the stream, or by the decoder of the tiles, or does no harm."""
    for name, content in compressed_forms(cube(4)).items():
        if name != "a.fits":
            spoilt = bytearray(content)
            spoilt[len(content) // 3] ^= 0xFF
            path = put(tmp_path / name, bytes(spoilt))
            try:
                unpacked_pixels(path, tmp_path / "scratch")
            except BadRawData:
                continue
            assert name == "e.fits.fz"  # tiles carry no checksum of their own


@pytest.mark.parametrize("name", ["b.fits.bz2", "d.fits.gz", "e.fits.fz"])
def test_decompression_bomb(tmp_path, name):
    path = put(tmp_path / name, compressed_forms(cube(4))[name])
    with pytest.raises(BadRawData, match="at most 4000 bytes"):
        unpack(path, tmp_path / "scratch", max_bytes=4000)
    assert not list((tmp_path / "scratch").iterdir())


def test_growing_file_gets_no_verdict(tmp_path, monkeypatch):
    content = gzip.compress(as_cube(cube(3)))
    path = put(tmp_path / "a.fits.gz", content[:500])

    def decompress_while_written(job):
        path.write_bytes(content[:900])
        compression.decompress(job)

    monkeypatch.setattr(raw_files, "decompress", decompress_while_written)
    with pytest.raises(NotReady, match="still being written"):
        unpack(path, tmp_path / "scratch")


def test_no_space_is_worth_another_try(tmp_path, monkeypatch):
    path = put(tmp_path / "a.fits.gz", gzip.compress(as_cube(cube(3))))

    def full(job):
        job.target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(raw_files, "decompress", full)
    with pytest.raises(NoSpace, match="no space") as caught:
        unpack(path, tmp_path / "scratch")
    assert caught.value.event == "release"  # no fault of the step: it costs no attempt
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo 'stdout: write(): No space left on device' >&2; exit 1", NoSpace, "no space"),
        ("echo 'read: Input/output error' >&2; exit 1", ArchiveError, "Input/output"),
        ("kill -9 $$", ArchiveError, "-9"),
        ("echo 'block CRC mismatch' >&2; exit 1", BadRawData, "CRC"),
    ],
)
def test_what_a_decompressor_complains_of(tmp_path, monkeypatch, script, error, message):
    tool = put(tmp_path / "lbzip2", f"#!/bin/sh\n{script}\n".encode())
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = put(tmp_path / "a.fits.bz2", bz2.compress(b"x"))
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(path, tmp_path / "scratch")
    assert type(caught.value) is error


def test_raw_file_gone(tmp_path):
    for call in (lambda p: unpack(p, tmp_path), scan, read_header, lambda p: signature([p])):
        with pytest.raises(ArchiveError, match="cannot be read") as caught:
            call(tmp_path / "a.fits.bz2")
        assert caught.value.event == "release"  # it is waited for: it may be on a disk that is away


def test_signature_says_whether_raw_files_changed(tmp_path):
    a, b = put(tmp_path / "a", b"1"), put(tmp_path / "b", b"2")
    before = signature([a, b])
    assert before == signature([b, a])
    assert before != signature([a])
    os.utime(b, ns=(1, 1))
    assert before != signature([a, b])


# ----------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize(
    ("keys", "files", "complaint"),
    [
        ({"NEXTEND": 30}, [15], "holds 15 of 31 frames"),
        ({"NFRAMES": 16}, [15], "holds 15 of 16 frames"),
        ({"NUMFRAME": 31}, [15], "holds 15 of 31 frames"),
        ({"NFRAMES": 9}, [5, 3], "holds 5 of 9 frames"),
        ({"NFRAMES": 8}, [5, 3], None),  # of the whole sequence
        ({"NFRAMES": "many"}, [3], None),
        ({"NEXTEND": 0}, [3], None),
        ({}, [4, 3, 4], "holds 3 frames, a0.fits 4"),
        ({}, [3, 4], "holds 4 frames, a0.fits 3"),
        ({}, [4, 4, 1], None),
    ],
)
def test_frames_are_counted(tmp_path, keys, files, complaint):
    small = [as_extensions(cube(n, shape=(4, 4)), **keys) for n in files]
    paths = [put(tmp_path / f"a{i}.fits", content) for i, content in enumerate(small)]
    if complaint is None:
        assert len(pixels_of(*paths)) == sum(files)
    else:
        with pytest.raises(BadRawData, match=complaint):
            Frames(paths)


def test_expected_frames():
    assert expected_frames({"NEXTEND": 30, "NAXIS": 2}) == 31
    assert expected_frames({"NEXTEND": 30, "NAXIS": 0}) == 30
    assert expected_frames({"NFRAMES": 7, "NEXTEND": 30}) == 7
    assert expected_frames({"NFRAMES": float("nan")}) is None
    assert expected_frames({"NFRAMES": None, "NUMFRAME": -1}) is None


def test_plain_file_cut_anywhere(tmp_path):
    truth = cube(5)
    content = as_extensions(truth, NEXTEND=4)
    header_end = scan(put(tmp_path / "a.fits", content)).stacks[2].offset
    cuts = [0, 1, 80, 2879, 2880, 3000, header_end - 2880, header_end - 100, header_end]
    for cut in [*cuts, *random.Random(2).sample(range(len(content)), 20)]:
        path = put(tmp_path / "a.fits", content[:cut])
        if len(content) - cut < -(20 * 30 * 2) % 2880:
            assert len(pixels_of(path)) == 5  # only padding is missing
            continue
        with pytest.raises(BadRawData, match=r"a\.fits"):
            Frames([path])


def test_a_header_that_is_too_long_names_the_limit(tmp_path, monkeypatch):
    """The END card is there, but so far away that it is not looked for."""
    monkeypatch.setattr(hdus, "MAX_HEADER_BYTES", 4 * 2880)
    cards = {f"KEY{i}": i for i in range(500)}
    path = put(tmp_path / "a.fits", as_cube(cube(2), **cards))
    with pytest.raises(BadRawData, match=r"at most 11520 bytes, found no END card in the first 11520$"):
        scan(path)
    put(path, as_cube(cube(2))[:100])
    with pytest.raises(BadRawData, match="expected an END card, found none in 100 bytes"):
        scan(path)


def test_cut_data_name_the_frame(tmp_path):
    for content in (as_extensions(cube(5)), as_cube(cube(5))):
        offset = scan(put(tmp_path / "a.fits", content)).stacks
        start = offset[3].offset if len(offset) > 1 else offset[0].offset + 3 * 1200
        put(tmp_path / "a.fits", content[: start + 17])
        with pytest.raises(BadRawData, match="frame 3: expected 1200 bytes, found 17"):
            scan(tmp_path / "a.fits")


def test_file_cut_while_open(tmp_path):
    path = put(tmp_path / "a.fits", as_cube(cube(5)))
    with Frames([path]) as frames:
        os.truncate(path, 2880 + 4 * 1200 + 7)
        frames.read(3)
        with pytest.raises(BadRawData, match="frame 4: expected 1200 bytes, found 7"):
            frames.read(4)


def test_stray_block_at_the_end_is_passed_over(tmp_path):
    truth = cube(3)
    content = as_extensions(truth)
    for stray in (bytes(2880), b" " * 2880, b"rubbish"):
        np.testing.assert_array_equal(pixels_of(put(tmp_path / "a.fits", content + stray)), truth.astype(np.float32))
    with pytest.raises(BadRawData, match="expected a FITS header with XTENSION, found nothing"):
        Frames([put(tmp_path / "a.fits", content + bytes(5760))])


def test_frames_of_different_shape(tmp_path):
    hdus = fits.HDUList([fits.PrimaryHDU(cube(1)[0]), fits.ImageHDU(cube(1, shape=(8, 8))[0])])
    with pytest.raises(BadRawData, match=r"expected frames of \(20, 30\), found \(8, 8\)"):
        Frames([put(tmp_path / "a.fits", in_bytes(hdus, {}))])


def test_broken_table(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=np.arange(2000))])
    hdus = fits.HDUList([fits.PrimaryHDU(cube(1)[0]), table])
    content = in_bytes(hdus, {})
    assert len(pixels_of(put(tmp_path / "a.fits", content))) == 1
    with pytest.raises(BadRawData, match="extension: expected 8000 bytes, found 100"):
        scan(put(tmp_path / "a.fits", content[: -8640 + 100]))
    broken = content.replace(b"PCOUNT  =                    0", b"PCOUNT  =               -90000")
    with pytest.raises(BadRawData, match="expected positive PCOUNT"):
        scan(put(tmp_path / "a.fits", broken))


def test_file_without_frames(tmp_path):
    with pytest.raises(BadRawData, match="expected frames, found none"):
        Frames([put(tmp_path / "a.fits", in_bytes(fits.HDUList([fits.PrimaryHDU()]), {}))])
    with pytest.raises(BadRawData, match="found one axis"):
        Frames([put(tmp_path / "a.fits", as_cube(np.zeros(50, np.float32)))])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"END     ", b"XEND    "),
        (b"BITPIX  =                   16", b"BITPIX  =                   17"),
        (b"BITPIX  =                   16", b"BITPIX  = 'sixteen'           "),
        (b"BITPIX  ", b"BITPIXX "),
        (b"NAXIS1  =                   30", b"NAXIS1  =                 3000"),
        (b"NAXIS1  =                   30", b"NAXIS1  =                  -30"),
        (b"NAXIS1  =                   30", b"NAXIS1  =                 30.5"),
        (b"NAXIS   =                    2", b"NAXIS   =                  3e9"),
        (b"NAXIS   =                    2", b"NAXIS   =                  999"),
        (b"BZERO   =                32768", b"BZERO   =                  NaN"),
        (b"SIMPLE", b"SIMPEL"),
    ],
)
def test_broken_header(tmp_path, old, new):
    content = as_extensions(cube(2))
    assert old in content
    with pytest.raises(BadRawData, match=r"a\.fits: .*expected"):
        Frames([put(tmp_path / "a.fits", content.replace(old, new))])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2 * 2880 - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_mutated_headers_are_read_or_refused(tmp_path, changes):
    """Whatever a header holds: frames, or BadRawData; its cards always fit into BSON and JSON."""
    content = bytearray(as_extensions(cube(2), NEXTEND=1, RA="10:20:30", GAIN=1.5))
    second = content.find(b"XTENSION") - 2880
    for place, byte in changes:
        content[place if place < 2880 else place + second] = byte
    path = put(tmp_path / "a.fits", bytes(content))
    try:
        pixels_of(path)
    except BadRawData as err:
        assert "a.fits" in str(err)
    try:
        cards = plain_cards(read_header(path))
    except BadRawData:
        return
    check_plain(cards)


# ----------------------------------------------------------------------------------- headers


def check_plain(cards: list[dict]) -> None:
    bson.encode({"fits_header": cards})
    json.dumps(cards, allow_nan=False)


def test_header_of_an_empty_primary_includes_the_first_frame(tmp_path):
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(cube(1)[0])])
    hdus[0].header.update({"EXPOSURE": 0.033, "COMMENT": "night"})
    hdus[1].header.update({"EXPOSURE": 0.05, "CAMERA": "VIC", "COMMENT": "frame"})
    header = read_header(put(tmp_path / "a.fits", in_bytes(hdus, {})))
    assert (header["OBJECT"], header["CAMERA"], header["EXPOSURE"], header["NAXIS"]) == ("HD 1234", "VIC", 0.05, 0)
    assert list(header["COMMENT"]) == ["night", "frame"]


def test_bad_cards_are_left_out(tmp_path):
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    0"]
    cards += ["BAD     = 'no end", "WORSE   = 1.2.3", "OBJECT  = 'M 13    '           / what", "????????", "END"]
    text = "".join(card.ljust(80) for card in cards).ljust(2880).encode("latin-1")
    header = read_header(put(tmp_path / "a.fits", text.replace(b"?", b"\xe9")))
    assert header["OBJECT"] == "M 13"
    check_plain(plain_cards(header))
    cut = read_header(put(tmp_path / "b.fits", text[:480]))
    assert cut["OBJECT"] == "M 13"


def test_only_the_beginning_is_read(tmp_path):
    content = bz2.compress(as_extensions(cube(2))) + b"rubbish"
    assert read_header(put(tmp_path / "a.fits.bz2", content))["OBJECT"] == "HD 1234"


@pytest.mark.parametrize("name", ["a.fits", "a.fits.bz2", "a.fits.gz"])
def test_no_header_at_all(tmp_path, name):
    for content in (b"", b"BZh9 nothing", b"\x1f\x8b nothing", b"text"):
        with pytest.raises(BadRawData, match=r"a\.fits"):
            read_header(put(tmp_path / name, content))


def test_plain_cards_are_fit_for_the_database():
    header = fits.Header([("BIG", 2**70), ("FINE", -(2**63)), ("YES", True), ("X", 1.5, "unit"), ("LONG", "a" * 5000)])
    header.append(fits.Card("NONE", None))
    header["CPLX"] = 1 + 2j
    header["NUMPY"] = np.float32(2.5)
    cards = {card["key"]: card["value"] for card in plain_cards(header)}
    check_plain(plain_cards(header))
    assert cards["BIG"] == str(2**70)
    assert (cards["FINE"], cards["YES"], cards["X"], cards["NONE"], cards["NUMPY"]) == (-(2**63), True, 1.5, None, 2.5)
    assert len(cards["LONG"]) == raw_headers.MAX_TEXT
    assert plain_cards(header)[3] == {"key": "X", "value": 1.5, "comment": "unit"}
    many = fits.Header([(f"K{i}", i) for i in range(raw_headers.MAX_CARDS + 5)])
    assert len(plain_cards(many)) == raw_headers.MAX_CARDS


def test_astropy_agrees_on_a_sloppy_header(tmp_path):
    """Keys the scanner does not know may say what they like."""
    content = as_extensions(cube(2), AA="NAXIS = 7", BB="it's / not", CC=1e300)
    path = put(tmp_path / "a.fits", content)
    with warnings.catch_warnings(action="ignore"), fits.open(path) as hdus:
        np.testing.assert_array_equal(pixels_of(path), np.array([hdu.data for hdu in hdus], np.float32))
