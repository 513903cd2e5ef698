"""An archive of two programmes with real images, raw files, masters and logs, for tests of the virtual observatory."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyvo
from astropy.config import set_temp_cache
from astropy.io import fits
from astropy.utils.data import import_file_to_cache
from pyvo.utils.vocabularies import IVOA_VOCABULARY_ROOT
from toy_archive import NIGHT, ToyArchive, make_config
from visitors import make_app, served

from obsarchive.config.loading import load
from obsarchive.core.documents import Observation, utc_now
from obsarchive.io.fits_products import Provenance, tan_wcs, write_fits
from obsarchive.io.product_entries import product_entry
from obsarchive.store import Store
from obsarchive.web import Portal
from obsarchive.web.framework.authorization import digest_of

RA, DEC = 155.1271, -0.0042
PIXEL_ARCSEC = 0.0174
VOCABULARY = Path(pyvo.__file__).parent / "dal" / "tests" / "data" / "datalink" / "datalink.desise"
"""What pyvo fetches from the IVOA before it follows a link, from a copy that comes with pyvo."""
TOKENS = {name: f"arc_of_{name}" for name in ("ana", "ben", "admin")}


@contextmanager
def cached_vocabulary(folder: Path) -> Iterator[None]:
    """Let pyvo follow links without a network."""
    with set_temp_cache(folder):
        import_file_to_cache(IVOA_VOCABULARY_ROOT + "datalink/core", str(VOCABULARY))
        yield


@contextmanager
def vo_store(uri: str) -> Iterator[Store]:
    """Give a database of its own, which is dropped at the end."""
    name = f"test_vo_{secrets.token_hex(4)}"
    store = Store(uri, name)
    yield store
    store.client.drop_database(name)
    store.close()


def stilts(task: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Run a task of STILTS, and return what it reports."""
    program = shutil.which("stilts")
    assert program, "apt-get install stilts"
    done = subprocess.run([program, *options, task, *arguments], capture_output=True, timeout=280, check=False)
    return (done.stdout + done.stderr).decode()


def write_image(app: Portal, obs_id: str, name: str, shape: tuple[int, ...], north_deg: float) -> None:
    """Write an image with a WCS as a product of the pipeline bright_star."""
    found = Observation(app.store.observations.find(obs_id))
    path = app.layout.observation(found.night, obs_id) / "bright_star" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.indices(shape[-2:])
    star = 1000 * np.exp(-((y - 60.0) ** 2 + (x - 80.0) ** 2) / 30)
    image = np.broadcast_to(star, shape).astype(np.float32)
    header = {"OBJECT": "star", **tan_wcs(RA, DEC, (60.0, 80.0), PIXEL_ARCSEC, north_deg)}
    write_fits(path, image, header, Provenance("1", "bright_star", "reduce", "0" * 16))
    record = found.pipeline("bright_star").step("reduce")
    others = [entry for entry in record.products if entry["name"] != name]
    app.store.observations.set_fields(
        obs_id, {"pipelined.bright_star.steps.reduce.products": [*others, product_entry(name, path)]}
    )


def write_raw(app: Portal, folder: Path, obs_id: str) -> bytes:
    """Write a raw file of an observation, and return its content."""
    path = folder / NIGHT / f"{obs_id}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.arange(64, dtype=np.int16).reshape(8, 8)).writeto(path)
    app.store.observations.set_fields(
        obs_id, {"raw_data": {"location": ["host", str(path.parent)], "data": [path.name]}, "shape": [1024, 1024]}
    )
    return path.read_bytes()


def write_masters(app: Portal, toy: ToyArchive) -> None:
    """Add the files of masters to the night."""
    folder = app.layout.calibration(NIGHT)
    entries = []
    for name in ("dark_6.fits", "flat_lp600.fits"):
        path = folder / name
        fits.PrimaryHDU(np.ones((4, 4), np.float32)).writeto(path)
        entries.append(product_entry(name, path))
    app.store.nights.set_fields(NIGHT, {"calib.steps.darks.products": entries})


@contextmanager
def vo_archive(store: Store, folder: Path) -> Iterator[SimpleNamespace]:
    """Serve an archive: two reduced observations of programme 3, one of programme 4."""
    telescopes = load(Path(__file__).parents[2] / "config.json").telescope
    app = make_app(store, make_config(folder).model_copy(update={"telescope": telescopes}))
    toy = ToyArchive(app.store, app.settings)
    own, later = toy.observation("3", "HD_140283", 0), toy.observation("3", "GJ_436", 30, filter="Si")
    foreign = toy.observation("4", "351_Yrsa", 2)
    for number, obs_id in enumerate((own, later, foreign)):
        toy.reduced(obs_id, number)
        write_image(app, obs_id, "100p.fits", (120, 160), 30.0 * number)
    write_image(app, own, "cube.fits", (3, 50, 60), 0.0)
    raw = {obs_id: write_raw(app, folder / "raw", obs_id) for obs_id in (own, later, foreign)}
    toy.calibration(NIGHT, [own, foreign])
    write_masters(app, toy)
    manifest = app.layout.observation(NIGHT, own) / "bright_star" / ".reduce.json"
    manifest.write_text(json.dumps({"log": ["guide star found", f"reference {foreign}", f"made {own}"]}))
    for name, token in TOKENS.items():
        app.store.tokens.add(digest_of(token), name, "notebook", ["read", "download"], timedelta(days=1))
    with served(app) as address:
        yield SimpleNamespace(
            app=app, address=address, own=own, later=later, foreign=foreign, raw=raw, toy=toy, now=utc_now()
        )
