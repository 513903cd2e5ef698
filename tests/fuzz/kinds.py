"""Kinds of hostile inputs, and what the code that reads them may do: take them, or say what is wrong."""

import bz2
import contextlib
import gzip
import io
import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import yaml
from astropy.io import fits
from astropy.table import Table
from bson import encode
from hypothesis import strategies as st

from obsarchive.config import loading
from obsarchive.core.archive_paths import Layout
from obsarchive.core.rules import FIELDS, compile_rule
from obsarchive.daemon import product_check, sidecars
from obsarchive.daemon.manifest_blocks import blocks_by_pipeline
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.instruments import HeaderDriven, RoboAO
from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import plain_cards, read_header
from obsarchive.names import ObservationName, is_night, is_observation
from obsarchive.remote.star_catalogs import read_catalog
from obsarchive.store import Act
from obsarchive.timeseries import config as dataset_config
from obsarchive.timeseries import point_lens, selection
from surveys.config_files import read_section
from surveys.formats.light_curve_files import read_light_curve
from tests.fuzz.strategies import as_json, ascii_texts, changed, mutated, numbers, texts, values

LONGEST_S, PATIENCE_S = 5.0, 60.0
"""An input that takes more time of the processor, or of the clock, hangs."""
NIGHT, OBS = "20260314", "3_HIP_1_VIC_Si_o_20260314_030147.412567"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kind:
    """A kind of inputs.

    Parameters
    ----------
    name : str
        What it is.
    inputs : SearchStrategy
        How one is made.
    check : callable
        Gives an input to the code, in a folder of its own; raises what the code must not raise.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Path], None]

    def __str__(self) -> str:
        return self.name


class Hang(BaseException):
    """An input took too long; no code that is tested catches it."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `Hang` in the main thread when the block takes longer than the limits, which a busy machine is far from."""

    def ring(number: int, _: FrameType | None) -> None:
        raise Hang(signal.Signals(number).name)

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, LONGEST_S), signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE_S)}
    before = {number: signal.signal(number, ring) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def run(kind: Kind, given: Any, folder: Path) -> None:
    """Give one input to the code; AssertionError if something was written outside of the inner folder."""
    inner = folder / "outer" / "inner"
    inner.mkdir(parents=True, exist_ok=True)
    with limited(), warnings.catch_warnings(action="ignore"):
        kind.check(given, inner)
    strays = [
        path for path in (*folder.iterdir(), *(folder / "outer").iterdir()) if path.name not in ("outer", "inner")
    ]
    assert not strays, f"written outside: {strays}"


# -- names ----------------------------------------------------------------------------------------------------------

_PARTS = st.one_of(
    texts, st.sampled_from(["3", "HIP_1", "VIC", "Si", "o", "dark", "flat", "seeing", "6", NIGHT, "030147.412567"])
)
_SUFFIXES = st.sampled_from([".fits", ".fits.bz2", ".fits.gz", ".fits.fz", ".FITS", ".txt", "", ".fits.part"])
names = st.one_of(
    st.builds(lambda parts, suffix: "_".join(parts) + suffix, st.lists(_PARTS, min_size=1, max_size=9), _SUFFIXES),
    mutated((f"{OBS}.fits.bz2".encode(), b"flat_6_Si_20260314_010203.000004.fits"), 2).map(os.fsdecode),
)


def _names(name: str, folder: Path) -> None:
    layout = Layout(folder)
    found = RoboAO().identify(Path(name.replace("/", "_") or "_"))
    encode({"name": found.problem or "", "mode": found.mode, "filter": found.filter})
    for text in (name, found.observation):
        if is_observation(text):
            assert str(ObservationName.parse(text)) == text
            places = layout.observation(NIGHT, text), layout.sidecar(NIGHT, text), layout.tarball(NIGHT, text)
            assert all(os.path.normpath(place) == str(place) and folder in place.parents for place in places)
            encode({"_id": text})
        if is_night(text):
            assert layout.night(text).parent == folder
    if found.kind in ("dark", "flat"):
        assert "/" not in found.mode + found.filter


# -- FITS -----------------------------------------------------------------------------------------------------------


def _fits(*shape: int, extensions: int = 0, **keys: Any) -> bytes:
    rng = np.random.default_rng(1)
    hdus = [fits.PrimaryHDU(rng.integers(0, 60000, shape).astype(np.uint16))]
    hdus += [fits.ImageHDU(rng.integers(0, 60000, shape).astype(np.uint16)) for _ in range(extensions)]
    hdus[0].header.update(keys)
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


@cache
def fits_files() -> tuple[bytes, ...]:
    """Return small valid files: an image, extensions, a cube, floats."""
    keys = {"OBJECT": "M 67", "IMAGETYP": "LIGHT", "DATE-OBS": "2026-03-14T01:02:03", "EXPTIME": 3.0, "FILTER": "r"}
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.ones((4, 5), np.float32)).writeto(buffer)
    return _fits(6, 8, **keys), _fits(4, 4, extensions=2, TELRA="10:20:30.5"), _fits(3, 4, 4), buffer.getvalue()


KEYWORDS = (
    *("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "BZERO", "BSCALE", "BLANK", "PCOUNT"),
    *("GCOUNT", "XTENSION", "END", "CONTINUE", "HIERARCH", "OBJECT", "EXPTIME", "DATE-OBS", "TELRA", "TELDEC"),
    *("MODE_NUM", "IMAGETYP", "FILTER", "EQUINOX", "DETSIZE", "DATASEC", "BIASSEC", "TRIMSEC", "GAIN", "EXPOSURE"),
)
SIGNS = ("and", "or", "not", "in", "(", ")", "[", "]", "==", "<", "is", "lambda", ":=", "**", ".", ",", "if", "else")
_KEYS = st.one_of(
    st.sampled_from(KEYWORDS),
    ascii_texts,
)
_WRITTEN = st.one_of(
    numbers.map(str),
    ascii_texts.map(lambda text: "'" + text.replace("'", "''") + "'"),
    ascii_texts,
    st.sampled_from("TF"),
)
cards = st.builds(lambda key, value: f"{key[:8]:8}= {value}"[:80].ljust(80).encode("ascii", "replace"), _KEYS, _WRITTEN)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Draw a file whose primary header holds hostile cards."""
    content = draw(st.sampled_from(fits_files()))
    size = content.index(b"END" + b" " * 77)
    rows = [content[i : i + 80] for i in range(0, size, 80)]
    for card in draw(st.lists(st.one_of(cards, st.binary(min_size=80, max_size=80)), min_size=1, max_size=5)):
        at = draw(st.integers(0, len(rows)))
        rows[at : at + draw(st.integers(0, 1))] = [card]
    header = b"".join(rows) + b"END".ljust(80)
    return header + b" " * (-len(header) % 2880) + content[-(-size // 2880) * 2880 :]


def _header(content: bytes, folder: Path) -> None:
    path = folder / "a.fits"
    path.write_bytes(content)
    for instrument in (RoboAO(), HeaderDriven({"program": "$PROPID"})):
        found = instrument.identify(path)
        encode({"problem": found.problem or "", "id": found.observation, "mode": found.mode, "filter": found.filter})
        assert found.kind != "science" or is_observation(found.observation)
        try:
            header = read_header(path)
        except (ArchiveError, OSError):
            continue
        described = instrument.describe(header)
        encode({"described": described, "fits_header": plain_cards(header)})
        json.dumps(described, allow_nan=False)


_PACKINGS: dict[str, Callable[[bytes], bytes]] = {".fits": bytes, ".fits.gz": gzip.compress, ".fits.bz2": bz2.compress}


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a whole file that is damaged before or after it was packed."""
    suffix = draw(st.sampled_from(sorted(_PACKINGS)))
    if draw(st.booleans()):
        return suffix, _PACKINGS[suffix](draw(mutated(fits_files())))
    return suffix, draw(mutated(tuple(_PACKINGS[suffix](content) for content in fits_files())))


def _body(given: tuple[str, bytes], folder: Path) -> None:
    suffix, content = given
    path = folder / f"raw{suffix}"
    path.write_bytes(content)
    try:
        with Frames([unpack(path, folder)]) as frames:
            for i in range(min(len(frames), 4)):
                assert frames.read(i).dtype == np.float32
    except (ArchiveError, OSError):
        return
    finally:
        for left in folder.iterdir():
            left.unlink()


# -- configuration, rules, YAML -------------------------------------------------------------------------------------


@cache
def _shipped() -> dict[str, Any]:
    found = json.loads((ROOT / "config.json").read_text())
    found["pipelines"] = [{"class": "pipelines.night.Calibration", "when": "magnitude < 12", "steps": {"darks": {}}}]
    return found


def _configuration(content: bytes, folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        loading.load(path, import_classes=False)


rules = st.one_of(
    mutated(
        (b"science_program.program_id not in ['24'] and magnitude < 12", b"not (camera == 'VIC' or filter in [])")
    ).map(lambda text: text.decode("utf-8", "replace")),
    st.lists(
        st.one_of(
            st.sampled_from([*FIELDS, *SIGNS]),
            texts.map(repr),
            numbers.map(repr),
            texts,
        ),
        max_size=12,
    ).map(" ".join),
)


def _rule(text: str, folder: Path) -> None:
    del folder
    try:
        rule = compile_rule(text)
    except ConfigError:
        return
    for document in ({}, {"magnitude": "bright", "camera": 3, "science_program": None}):
        assert rule(document) in (True, False)


_YAML = (
    "target: {name: M 67, ra: '17:54:00', dec: -29.3}\nphotometry:\n  order: 2\n  catalogue: stars.csv\n",
    "data_reduction_dir: data\nconfig_type: all\nmax_parallel: 2\nselection:\n  ndays: 3\n",
    "project:\n  name: demo\n  analysis_keywords: {num: 3}\ncatalog: {filename: a.csv}\n",
    "a: &x [1, 2]\nb: *x\nc: {<<: {d: 2026-03-14 01:02:03}}\n? [1, 2]\n: !!set {e}\nf: 0b11\ng: |\n  text\n",
)
_mutated_yaml = mutated(tuple(text.encode() for text in _YAML))
_changed_yaml = changed(tuple(yaml.safe_load(text) for text in _YAML[:3])).map(as_json)
yaml_files = st.one_of(
    *(_mutated_yaml, _mutated_yaml, _mutated_yaml, _changed_yaml, _changed_yaml, _changed_yaml),
    st.tuples(st.integers(1, 30), st.integers(1, 4)).map(lambda size: nested_aliases(*size)),
    st.integers(1, 400).map(lambda depth: b"a: " + b"[" * depth + b"]" * depth),
)


def nested_aliases(levels: int, width: int) -> bytes:
    """Return a small file in which every level names the one below several times."""
    rows = ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(rows).encode()


def _yaml(content: bytes, folder: Path) -> None:
    path = folder / dataset_config.CONFIGURATION
    path.write_bytes(content)
    for read in (
        dataset_config.load,
        lambda _: selection.load(path),
        lambda _: read_section(str(path), None, "project"),
    ):
        with contextlib.suppress(ConfigError):
            read(folder)


# -- tables ---------------------------------------------------------------------------------------------------------

_STARS = Table({"id": ["a", "b"], "ra": [10.0, 11.5], "dec": [-5.0, 6.0], "mag": [12.5, 13.5], "pmra": [1.0, 2.0]})
_EPOCHS = Table({"mjd": [60000.1, 60001.2], "mag": [15.1, 15.2], "mag_err": [0.01, 0.02], "filter": ["g", "r"]})


@cache
def tables(which: str) -> tuple[tuple[str, bytes], ...]:
    """Return a valid table in each form that is no container of another library."""
    table, found = {"stars": _STARS, "epochs": _EPOCHS}[which], []
    for suffix, form in (
        (".csv", "ascii.csv"),
        (".ecsv", "ascii.ecsv"),
        (".vot", "votable"),
        (".fits", "fits"),
        (".txt", "ascii.basic"),
    ):
        buffer = io.BytesIO() if form in ("fits", "votable") else io.StringIO()
        table.write(buffer, format=form)
        content = buffer.getvalue()
        found.append((suffix, content if isinstance(content, bytes) else content.encode()))
    return tuple(found)


@st.composite
def table_files(draw: st.DrawFn, which: str) -> tuple[str, bytes]:
    """Draw a damaged table, sometimes under the suffix of another form."""
    suffix, content = draw(st.sampled_from(tables(which)))
    if draw(st.integers(0, 9)) == 0:
        suffix = draw(st.sampled_from([form for form, _ in tables(which)]))
    return suffix, draw(mutated((content,)))


def _catalog(given: tuple[str, bytes], folder: Path) -> None:
    path = folder / f"stars{given[0]}"
    path.write_bytes(given[1])
    with contextlib.suppress(ArchiveError):
        found = read_catalog(path)
        assert np.isfinite(found.ra).all()
        assert (abs(found.dec) <= 90).all()


def _light_curve(given: tuple[str, bytes], folder: Path) -> None:
    path = folder / f"curve{given[0]}"
    path.write_bytes(given[1])
    with contextlib.suppress(ArchiveError):
        read_light_curve(path)
    with contextlib.suppress(ArchiveError):
        if point_lens.is_plain(path):
            point_lens.read_file(path)


# -- what the archive wrote -----------------------------------------------------------------------------------------

_MANIFEST = {
    **{"pipeline": "bright_star", "step": "reduce", "state": "done", "started": "2026-03-14T01:00:00+00:00"},
    **{"finished": "2026-03-14T01:02:00+00:00", "message": "", "results": {"ratio_percent": 12.5, "flag": "OK"}},
    **{
        "products": [{"name": "100p.fits", "bytes": 3, "sha256": "0" * 64}],
        "inputs": {"science": "abc"},
        "version": "1",
    },
}
_SIDECAR = {"_id": OBS, "night": NIGHT, "date_utc": "2026-03-14T03:01:47+00:00", "raw_data": {"data": ["a.fits"]}}
_ACT = {"in": "users", "id": "ana", "is": {"_id": "ana", "programs": ["3"], "when": {"$date": "2026-03-14T01:00:00Z"}}}


def _json_files(*seeds: Any) -> st.SearchStrategy[bytes]:
    return st.one_of(changed(seeds).map(as_json), values.map(as_json), mutated(tuple(map(as_json, seeds))))


def _manifest(content: bytes, folder: Path) -> None:
    pipeline = folder / NIGHT / OBS / "bright_star"
    pipeline.mkdir(parents=True, exist_ok=True)
    (pipeline / ".reduce.json").write_bytes(content)
    (pipeline.parent / ".observation.json").write_bytes(content)
    list(product_check.verify(folder))
    encode(dict(blocks_by_pipeline(pipeline)))
    encode(sidecars.read_sidecar(Layout(folder), NIGHT, OBS).document)


def _act(content: bytes, folder: Path) -> None:
    del folder
    with contextlib.suppress(ValueError):
        act = Act.from_line(content.decode("utf-8", "replace"))
        assert "\n" not in act.to_line()[:-1]


KINDS = (
    Kind("names", names, _names),
    Kind("FITS headers", headers(), _header),
    Kind("FITS bodies", bodies(), _body),
    Kind(
        "configuration", st.one_of(changed((_shipped(),)).map(as_json), mutated((as_json(_shipped()),))), _configuration
    ),
    Kind("rules", rules, _rule),
    Kind("YAML", yaml_files, _yaml),
    Kind("catalogues", table_files("stars"), _catalog),
    Kind("light curves", table_files("epochs"), _light_curve),
    Kind("manifests", _json_files(_MANIFEST, _SIDECAR), _manifest),
    Kind("journal", _json_files(_ACT), _act),
)
