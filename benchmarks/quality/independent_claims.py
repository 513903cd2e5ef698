"""What the products of a night of the instrument of truth say, the errors that they claim, and what is true."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from benchmarks.quality.independent_truth import CLUSTER, COMPANION, COMPANION_MAG, FINE_ARCSEC, Night
from benchmarks.quality.pulls import Pulls
from obsarchive.science.photometry.source_detection import detect

Claim = tuple[str, str, Any, Any, Any]
"""Quantity, unit, what the products say, the error that they claim, and the truth."""
SAME_PX = 3.0
OF_FIELD = ("field: position, east", "field: position, north")
"""Quantities that charge left behind moves by the same amount in all nights: see `without_common`."""


def claims(night: Night) -> Iterator[Claim]:
    """Yield all claims of a night, but those of the seeing."""
    for target in night.seen:
        if target not in ("planet", "pair"):
            yield from _of_star(night, target)
    table = night.frames("pair", "faint_star/shifts.txt")
    frames = table["frame"].astype(int)
    for axis, name in enumerate(("dy", "dx")):
        for kind, true in (("", night.seen["pair"].fits_px), (", of its wavefront", night.seen["pair"].shifts_px)):
            shift = _centred(-true[frames, axis])
            yield f"shift of a faint star{kind}", "px", _centred(table[name]), table["error"], shift
    yield from _of_companion(night)
    yield from _of_field(night)


def seeing_of(night: Night) -> list[tuple[float, float, float]]:
    """Return found, claimed error and median of the true widths of the frames of each seeing file, in order of time."""
    pairs = zip(night.seeing_files(), night.seeing, strict=True)
    return [(*_pair(found, "fwhm_arcsec"), float(np.median(true.widths_arcsec))) for found, true in pairs]


def seeing_claims(nights: Sequence[list[tuple[float, float, float]]]) -> Iterator[Claim]:
    """Yield the seeing of all nights, from `seeing_of` each: files of a number have the same air.

    Errors are those of the seeing, of which the few frames of a file are a sample: true is the mean of all nights.
    """
    for files in zip(*nights, strict=True):
        true = np.mean([median for *_, median in files])
        for found, error, _ in files:
            yield "seeing", "″", found, error, true


def without_common(pulls: Pulls) -> None:
    """Take the mean of all nights from the errors, and what it takes of their scatter in turn."""
    errors = np.array(pulls.errors)
    if len(errors) > 1:
        pulls.errors[:] = ((errors - errors.mean()) * np.sqrt(len(errors) / (len(errors) - 1))).tolist()


def _of_star(night: Night, target: str) -> Iterator[Claim]:
    """Strehl ratio of the stack that was made, and positions in its frames about the mean of the sharper half."""
    true = night.seen[target]
    table = night.frames(target, "bright_star/frames.txt")
    frames, places = table["frame"].astype(int), np.stack([table["y"], table["x"]], axis=1)
    pixfrac = night.results(target, "bright_star/.reduce.json")["pixfrac"]
    name = "Strehl ratio" + (" among five stars" if target == "cluster" else "")
    found = night.results(target, "bright_star/.strehl.json")
    yield name, "%", *_pair(found, "ratio_percent"), 100 * true.stack_strehl(frames, places, pixfrac)
    # the order is that of sharpness; blurred frames may have two peaks of a height, of which noise chooses one, and the
    # few that have the other one would move the mean of all
    sharp = slice(len(frames) // 2)
    off = places - true.peaks_px[frames]
    off -= off[sharp].mean(axis=0)
    for kind, part in (("a sharp frame", sharp), ("any frame", slice(None))):
        for axis, name in enumerate("yx"):
            yield f"guide star, {name} in {kind}", "px", off[part, axis], table[f"{name}_error"][part], 0.0


def _of_companion(night: Night) -> Iterator[Claim]:
    north, west = COMPANION
    angle = np.degrees(np.arctan2(-west, north)) % 360
    for found in night.results("double", "bright_star/.pca.json")["detections"]:
        if abs(found["separation_arcsec"] - 0.9) < 0.1 and abs(found["position_angle_deg"] - angle) < 7:
            yield "companion: separation", "″", *_pair(found, "separation_arcsec"), np.hypot(north, west)
            yield "companion: position angle", "°", *_pair(found, "position_angle_deg"), angle
            yield "companion: magnitude difference", "mag", *_pair(found, "delta_mag"), COMPANION_MAG


def _of_field(night: Night) -> Iterator[Claim]:
    """Plate solution, at the place of the guide star in the stack without noise, and places of stars in the stack."""
    found = night.results("cluster", "astrometry/.solve.json")
    if not found["solved"]:
        return
    yield "field: scale", "″/px", *_pair(found, "scale_arcsec"), FINE_ARCSEC
    yield "field: angle of north", "°", *_pair(found, "north_angle_deg"), 0.0
    stack = night.noise_free_stack("cluster")
    # without any noise nothing is significant
    true = detect(stack + np.random.default_rng(0).normal(0, 1e-4, stack.shape))
    stars = Table.read(night.product("cluster", "astrometry/{id}_matches.csv"), format="ascii.csv")
    away = np.stack([stars["y_px"] - true.y[:, np.newaxis], stars["x_px"] - true.x[:, np.newaxis]], axis=-1)
    nearest = np.argmin(np.hypot(*away.T), axis=1), np.arange(len(stars))
    off = away[nearest[0], nearest[1]]
    off = off[np.hypot(*off.T) < SAME_PX]
    # charge that is left behind moves all stars alike, by 0.2 mas
    alone = (off - off.mean(axis=0)) * np.sqrt(len(off) / (len(off) - 1))
    yield "field: a star in the image", "mas", 1e3 * FINE_ARCSEC * alone, 1e3 * found["star_error_arcsec"], 0.0
    guide = int(np.argmax(true.flux))
    header = fits.getheader(night.product("cluster", "astrometry/{id}_wcs.fits"))
    place = WCS(header).pixel_to_world(true.x[guide], true.y[guide])
    catalogue = Table.read(night.layout.root / "stars.csv", format="ascii.csv")[
        np.argmax([-mag for *_, mag in CLUSTER])
    ]
    east, north = SkyCoord(catalogue["ra"], catalogue["dec"], unit="deg").spherical_offsets_to(place)
    for name, offset in zip(OF_FIELD, (east, north), strict=True):
        yield name, "mas", 1e3 * offset.arcsec, 1e3 * found["centre_error_arcsec"], 0.0


def _pair(found: dict[str, Any], key: str) -> tuple[float, float]:
    """Value and claimed error, NaN where there is none."""
    stem, _, unit = key.rpartition("_")
    error = found.get(f"{key}_error", found.get(f"{stem}_error_{unit}"))
    return found[key], np.nan if error is None else error


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()
