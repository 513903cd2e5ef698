"""SExtractor, PSFEx and SCAMP on an image in memory: second programs for photometry and astrometry."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"
"""The usual filter of SExtractor, ``default.conv``."""


@cache
def version(program: str) -> str:
    """Return name and version of a program."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"version\s+(\S+)", said.stdout + said.stderr)
    names = {"source-extractor": "SExtractor", "psfex": "PSFEx", "scamp": "SCAMP"}
    return f"{names[program]} {found[1] if found else ''}".strip()


def _run(program: str, argument: Path | str, settings: Mapping[str, Any], folder: Path) -> None:
    words = [program, str(argument), "-c", "/dev/null"]
    for key, value in settings.items():
        words += [f"-{key}", str(value)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")


def sextractor(
    image: np.ndarray, folder: Path, columns: Iterable[str], header: fits.Header | None = None, **settings: Any
) -> np.ndarray:
    """Return the catalogue of an image, kept in the folder as ``catalog.fits``.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Pixels.
    folder : Path
        For the files of the program.
    columns : iterable of str
        Columns of the catalogue.
    header : Header, optional
        Of the image.
    settings
        Settings that differ from the usual ones.
    """
    fits.writeto(folder / "image.fits", np.asarray(image, np.float32), header, overwrite=True)
    (folder / "kernel.conv").write_text(KERNEL)
    (folder / "columns.param").write_text("\n".join(columns) + "\n")
    usual = {
        "CATALOG_NAME": "catalog.fits",
        "CATALOG_TYPE": "FITS_LDAC",
        "PARAMETERS_NAME": "columns.param",
        "FILTER_NAME": "kernel.conv",
        "DETECT_THRESH": 3.0,
        "ANALYSIS_THRESH": 3.0,
        "DETECT_MINAREA": 5,
        "BACK_SIZE": 64,
        "PHOT_APERTURES": 10,
        "GAIN": 0,
        "SATUR_LEVEL": 1e9,
        "SATUR_KEY": "NONE",
        "GAIN_KEY": "NONE",
        "MASK_TYPE": "NONE",
        "VERBOSE_TYPE": "QUIET",
        "WRITE_XML": "N",
        "NTHREADS": 1,
    }
    _run("source-extractor", folder / "image.fits", {**usual, **settings}, folder)
    return np.array(fits.getdata(folder / "catalog.fits", "LDAC_OBJECTS"))


def psfex(folder: Path, **settings: Any) -> Path:
    """Return the model of the PSF from the catalogue that :func:`sextractor` left, which holds ``VIGNET``."""
    usual = {
        "BASIS_TYPE": "PIXEL_AUTO",
        "PSF_SAMPLING": 0,
        "PSF_SIZE": "31,31",
        "PSFVAR_DEGREES": 0,
        "PSFVAR_KEYS": "X_IMAGE,Y_IMAGE",
        "PSFVAR_GROUPS": "1,1",
        "SAMPLE_MINSN": 30,
        "SAMPLE_MAXELLIP": 0.5,
        "CHECKIMAGE_TYPE": "NONE",
        "CHECKPLOT_TYPE": "NONE",
        "VERBOSE_TYPE": "QUIET",
        "WRITE_XML": "N",
        "NTHREADS": 1,
    }
    _run("psfex", folder / "catalog.fits", {**usual, **settings}, folder)
    return folder / "catalog.psf"


def scamp(folder: Path, reference: tuple[np.ndarray, np.ndarray, np.ndarray], **settings: Any) -> fits.Header:
    """Return the header with the plate solution of the catalogue that :func:`sextractor` left.

    Parameters
    ----------
    folder : Path
        Holds the catalogue, with ``XWIN_IMAGE``, ``ERRAWIN_IMAGE``, ... of an image with a rough solution.
    reference : (ndarray (n,), ndarray (n,), ndarray (n,))
        Right ascension, declination [deg] and magnitude of the stars of a catalogue.
    settings
        Settings that differ from the usual ones.
    """
    ra, dec, mag = (np.asarray(values, float) for values in reference)
    error = np.full(len(ra), 0.1 / 3600)
    columns = [
        fits.Column("X_WORLD", "1D", "deg", array=ra),
        fits.Column("Y_WORLD", "1D", "deg", array=dec),
        fits.Column("ERRA_WORLD", "1E", "deg", array=error),
        fits.Column("ERRB_WORLD", "1E", "deg", array=error),
        fits.Column("MAG", "1E", "mag", array=mag),
        fits.Column("MAGERR", "1E", "mag", array=np.full(len(ra), 0.05)),
        fits.Column("OBSDATE", "1D", "yr", array=np.full(len(ra), 2019.23)),
        fits.Column("FLAGS", "1I", array=np.zeros(len(ra), np.int16)),
    ]
    card = fits.Header()
    table = fits.BinTableHDU.from_columns(columns, name="LDAC_OBJECTS")
    # the format keeps the header of the image in a table of its own
    text = np.frombuffer(card.tostring(endcard=True, padding=True).encode(), np.uint8)
    image = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", f"{len(text)}A", array=np.array([text.tobytes()]))], name="LDAC_IMHEAD"
    )
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(folder / "reference.cat", overwrite=True)
    usual = {
        "ASTREF_CATALOG": "FILE",
        "ASTREFCAT_NAME": "reference.cat",
        "ASTREFCENT_KEYS": "X_WORLD,Y_WORLD",
        "ASTREFERR_KEYS": "ERRA_WORLD,ERRB_WORLD,ERRTHETA_WORLD",
        "ASTREFMAG_KEY": "MAG",
        "ASTREFMAGERR_KEY": "MAGERR",
        "MATCH": "Y",
        "MOSAIC_TYPE": "UNCHANGED",
        "DISTORT_DEGREES": 2,
        "SOLVE_PHOTOM": "N",
        "CHECKPLOT_TYPE": "NONE",
        "VERBOSE_TYPE": "QUIET",
        "WRITE_XML": "N",
        "NTHREADS": 1,
    }
    _run("scamp", folder / "catalog.fits", {**usual, **settings}, folder)
    text = (folder / "catalog.head").read_text(errors="replace")
    lines = [line for line in text.splitlines() if not line.startswith(("HISTORY", "COMMENT", "END"))]
    return fits.Header.fromstring("\n".join(lines), sep="\n")
