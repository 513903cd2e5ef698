"""A simulated dataset: frames of a crowded field with a microlensing event, in the format of LCO's archive."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits

from obsarchive.io import atomic
from obsarchive.io.wcs_headers import plate_cards
from obsarchive.simulation.star_field import Microlensing, ObservingConditions, SimulatedFrame, StarField

TARGET = "SIM-2026-BLG-0001"
FIRST_MJD = 60480.0
CATALOGUE = "catalogue.csv"
BAND = "ip"
YEAR_D = 365.25
EVENT = Microlensing(peak_mjd=FIRST_MJD + YEAR_D + 55.0, einstein_d=18.0, impact=0.2)
"""Of the demo: in its second season."""


def write_dataset(
    folder: Path,
    field: StarField,
    n: int,
    *,
    every_d: float = 4.0,
    air: Callable[[int], ObservingConditions] | None = None,
) -> list[SimulatedFrame]:
    """Write a dataset: frames, a local catalogue, ``reduction_config.yaml``.

    Parameters
    ----------
    folder : Path
        Of the dataset; made if it does not exist.
    field : StarField
        What is simulated.
    n : int
        Number of frames.
    every_d : float
        Time between them [d].
    air : callable, optional
        Gives the observing conditions of a frame, by its number; seeing, air mass and clouds vary by default.

    Returns
    -------
    list of SimulatedFrame
        The frames with their truth.
    """
    return _write(folder, field, [FIRST_MJD + every_d * i for i in range(n)], BAND, air)


def write_event(root: Path, n: int = 14) -> list[Path]:
    """Write the datasets of the demo: a microlensing event over two seasons, in two filters.

    Parameters
    ----------
    root : Path
        Folder of datasets.
    n : int
        Frames in each season and filter.

    Returns
    -------
    list of Path
        The datasets.
    """
    fields = {"gp": StarField(n_stars=250, event=replace(EVENT, mag=18.2)), "ip": StarField(n_stars=250, event=EVENT)}
    mjds = [FIRST_MJD + season + 8.0 * i for season in (0.0, YEAR_D) for i in range(n)]
    folders = {band: root / TARGET / "sinistro" / band for band in fields}
    for band, folder in folders.items():
        _write(folder, fields[band], mjds, band)
    return list(folders.values())


def _write(
    folder: Path,
    field: StarField,
    mjds: Sequence[float],
    band: str,
    air: Callable[[int], ObservingConditions] | None = None,
) -> list[SimulatedFrame]:
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for i, mjd in enumerate(mjds):
        frame = field.frame(i, mjd, air=(air or variable_transparency(field.seed))(i))
        write_frame(folder / name_of(i), frame, field, band=band)
        frames.append(frame)
    write_catalogue(folder / CATALOGUE, field)
    write_configuration(folder, field)
    return frames


def name_of(number: int) -> str:
    """Return the file name of a frame."""
    return f"lsc1m005-fa15-{20240620 + number // 100:08d}-{number:04d}-e91.fits"


def variable_transparency(seed: int) -> Callable[[int], ObservingConditions]:
    """Return a function that gives random observing conditions by the number of the frame."""

    def air(i: int) -> ObservingConditions:
        rng = np.random.default_rng([seed, 2, i])
        clouds = float(rng.exponential(0.05))
        return ObservingConditions(
            float(rng.uniform(3.0, 5.0)), float(rng.uniform(1.0, 1.8)), clouds, float(rng.uniform(3, 10))
        )

    return air


def write_frame(path: Path, frame: SimulatedFrame, field: StarField, packed: bool = False, band: str = BAND) -> None:
    """Write one frame: image, bad pixels, errors.

    Parameters
    ----------
    path : Path
        File to write.
    frame : SimulatedFrame
        Its pixels and plate solution.
    field : StarField
        Gives the camera and the pointing.
    packed : bool
        Compress the image, as LCO's archive does.
    band : str
        Name of the filter.
    """
    start = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=frame.mjd_middle - frame.exposure_s / 2 / 86400)
    ra, dec = field.centre
    header = plate_cards(frame.claimed)
    header.update(
        {
            "EXTNAME": "SCI",
            "OBJECT": TARGET,
            "OBSTYPE": "EXPOSE",
            "RLEVEL": 91,
            "PROPID": "SIM2026A-001",
            "REQNUM": "1",
            "SITEID": "lsc",
            "ENCID": "doma",
            "TELID": "1m0a",
            "INSTRUME": "fa15",
            "FILTER": band,
            "DATE-OBS": start.isoformat(timespec="milliseconds").removesuffix("+00:00"),
            "EXPTIME": frame.exposure_s,
            "RA": Angle(ra * u.deg).to_string(u.hourangle, sep=":", precision=3, pad=True),
            "DEC": Angle(dec * u.deg).to_string(u.deg, sep=":", precision=2, pad=True, alwayssign=True),
            "PIXSCALE": field.camera.pixel_arcsec,
            "GAIN": 1.0,
            "RDNOISE": field.camera.read_noise_e,
            "SATURATE": field.camera.full_well_e,
        }
    )
    error = fits.ImageHDU(np.sqrt(frame.variance), name="ERR")
    bad = fits.ImageHDU(frame.bad.astype(np.uint8), name="BPM")
    if packed:
        science = fits.CompImageHDU(frame.image, header, compression_type="RICE_1", quantize_level=64)
        hdus = fits.HDUList([fits.PrimaryHDU(), science, bad, error])
    else:
        hdus = fits.HDUList([fits.PrimaryHDU(frame.image, header), bad, error])
    with atomic.atomic_path(path) as part:
        hdus.writeto(part)


def write_catalogue(path: Path, field: StarField) -> None:
    """Write the local catalogue, with the columns ``ra``, ``dec`` [deg], ``mag``, ``colour`` [mag].

    Parameters
    ----------
    path : Path
        File to write, CSV.
    field : StarField
        Its stars are listed.
    """
    ra, dec = field.sky
    rows = zip(ra, dec, field.mag, field.colour, strict=True)
    lines = ["ra,dec,mag,colour", *(f"{a:.7f},{d:.7f},{m:.4f},{c:.4f}" for a, d, m, c in rows)]
    atomic.atomic_write(path, ("\n".join(lines) + "\n").encode())


def write_configuration(folder: Path, field: StarField, more: str = "") -> None:
    """Write ``reduction_config.yaml``.

    Parameters
    ----------
    folder : Path
        Of the dataset.
    field : StarField
        Its star 0 is the target.
    more : str
        YAML that is appended.
    """
    ra, dec = (float(axis[0]) for axis in field.sky)
    right_ascension = Angle(ra * u.deg).to_string(u.hourangle, sep=":", precision=4, pad=True)
    declination = Angle(dec * u.deg).to_string(u.deg, sep=":", precision=3, pad=True, alwayssign=True)
    text = (
        f"target:\n  name: {TARGET}\n  RA: '{right_ascension}'\n  Dec: '{declination}'\n"
        f"photometry:\n  aperture_arcsec: 2.0\n  catalogue: {CATALOGUE}\n{more}"
    )
    atomic.atomic_write(folder / "reduction_config.yaml", text.encode())
