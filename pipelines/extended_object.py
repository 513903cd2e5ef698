"""Extended-object pipeline: planets, moons, nebulae are registered as a whole, added and deconvolved.

Registration and frame selection after lucky imaging of planets; Richardson-Lucy deconvolution stopped by the data,
see :mod:`obsarchive.science.imaging.deconvolution`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from obsarchive.core.document_paths import SEEING_MEDIAN_ARCSEC, SEEING_NEAREST_ARCSEC
from obsarchive.errors import Unprocessable
from obsarchive.figures.contrast import side_by_side
from obsarchive.io.psf_library import PsfLibrary
from obsarchive.names import is_observation, program_of
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import FloatArray
from obsarchive.science.imaging.cosmics import coincident_mask
from obsarchive.science.imaging.deconvolution import deconvolve, predicted_best
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.extended_source import sky_below
from obsarchive.science.psf.model import alternative_turbulence, diffraction_limited_psf, model_psf
from pipelines.shared.extended_sequence import DiscSequence, Registered
from pipelines.shared.frame_sequence import SCALE
from pipelines.shared.preview_step import PREVIEWS, PreviewSettings, labels_of, publish_previews
from pipelines.shared.product_headers import (
    frame_table,
    product_header,
    reasons_listed,
    reasons_text,
    require_optics,
    stack_position,
)
from pipelines.shared.strehl_step import stack_response

MAX_CANDIDATES = 4
"""Stars of the library that are tried, the nearest in time."""
MAX_TRIED_PX = 640
"""Side of the part of an image on which PSFs are tried [pixel]."""
AS_GOOD = 1.004
"""Times the least misfit."""
STRENGTHS, USUAL_STRENGTH = (0.4, 0.55, 0.7, 0.85, 1.0), 0.7
"""Of the turbulence, relative to that of the star in the library."""
MODEL_STREHLS = (0.03, 0.1, 0.25, 0.6)
MODEL_HALOS = (0.6, 1.0, 1.6)
"""FWHM of the halo, in units of the seeing."""
MODEL_SEEING_ARCSEC = 1.0
"""Of the model's halo when the seeing of the night is not known."""
MODEL_SIDE = 161


@dataclass(frozen=True)
class Settings:
    """Settings of the extended-object pipeline."""

    best_fraction: Annotated[float, Field(gt=0, le=1)] = field(
        default=0.7, metadata={"help": "fraction of the good frames that are added"}
    )


class ExtendedObject(Pipeline):
    """Registered and deconvolved image of an object larger than a star."""

    name = "extended_object"
    Settings = Settings

    @step(makes=["{id}_registered.fits", "frames.txt"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        """Register the frames on the whole object and average the sharpest, in two halves."""
        with work.frames() as frames:
            sequence = DiscSequence(work, frames)
            with sequence.faults_told():
                found = sequence.register()
            chosen = _chosen(found, self.settings.best_fraction)
            first, second = sequence.stacks(found, chosen)
        halves, hits = _clean_halves(first, second)
        mean = np.average(halves, axis=0, weights=[n for n in (first.n_frames, second.n_frames) if n])
        header = product_header(work, (SCALE, frames.shape), found.box.centre)
        header["NCOMBINE"] = (len(chosen), "frames added")
        header["PIXFRAC"] = (first.pixfrac, "side of the drizzled drops [raw pixel]")
        images = {"": mean.astype(np.float32), **{f"HALF{i}": half for i, half in enumerate(halves, start=1)}}
        work.publish_fits("{id}_registered.fits", images, header, sequence.calibrator.masters)
        work.publish("frames.txt", _table(found))
        return {
            "classified_as": "high_flux",
            **reasons_listed(found.reasons),
            "best_frames": len(chosen),
            "guide_star": {"y": found.box.centre[0], "x": found.box.centre[1], "size_px": max(found.box.shape) / 8},
            "object_centre": list(found.box.centre),
            "object_px": list(found.box.shape),
            "lock_position": list(stack_position(found.box.centre, SCALE)),
            "shift_rms_px": float(np.sqrt(np.mean(found.shifts[found.kept] ** 2))),
            "pixfrac": first.pixfrac,
            "cosmic_ray_pixels": hits,
            "calibration": sequence.calibrator.text,
        }

    @step(makes=["{id}_deconvolved.fits"], after=["reduce"], uses=["library"])
    def deconvolve(self, work: Workspace) -> dict[str, Any]:
        """Deconvolve with the PSF that predicts the data best: of a star observed near in time, else a model."""
        halves, sky = _halves(work)
        psf, origin = _best_psf(work, halves, work.telescope.plate_scale_arcsec / SCALE)
        work.progress(0.6, "deconvolving")
        found = deconvolve(*halves, psf)
        centre = tuple(work.results("reduce")["object_centre"])
        height, width = found.image.shape
        header = product_header(work, (SCALE, (height // SCALE, width // SCALE)), (centre[0], centre[1]))
        header["PSF"] = (_shown_origin(work, origin), "what it was deconvolved with")
        header["NITER"] = (found.iterations, "Richardson-Lucy iterations, stopped by the data")
        work.publish_fits("{id}_deconvolved.fits", found.image, header, work.task.masters)
        night = work.observation.night
        return {
            "psf": origin,
            "iterations": found.iterations,
            "misfit": found.misfit,
            "sky_adu": sky,
            "references": [origin] if origin not in ("", "model") else [],
            "lacks_references": "" if f"_{night}_" in origin else "own night",
        }

    @step(makes=[*PREVIEWS, "preview/{id}_comparison.png"], after=["deconvolve"], settings=PreviewSettings)
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Make previews of the deconvolved image, and show it beside the registered mean."""
        sharp, header = work.read("{id}_deconvolved.fits")
        mean, _ = work.read("{id}_registered.fits")
        box = _object_part(work, mean.shape)
        images = {"registered mean": mean[box], "deconvolved": sharp[box]}
        picture = side_by_side(images, float(header["PIXSCALE"]), labels_of(work), work.telescope.compass_deg)
        work.publish("preview/{id}_comparison.png", picture)
        return publish_previews(work, "{id}_deconvolved.fits", SCALE)


def _shown_origin(work: Workspace, origin: str) -> str:
    """Origin of the PSF as the product names it: users of the product may not see stars of other programmes."""
    is_foreign = is_observation(origin) and program_of(origin) != program_of(work.observation.id)
    return "star of another programme" if is_foreign else origin


def _chosen(found: Registered, best_fraction: float) -> list[int]:
    """Numbers of the sharpest good frames; rejects a sequence without any."""
    kept = np.flatnonzero(found.kept)
    if not kept.size:
        raise Unprocessable(f"no usable frame of {len(found.reasons)}: {reasons_text(found.reasons)}", "failed")
    order = kept[np.argsort(-found.sharpness[kept], kind="stable")]
    chosen: list[int] = order[: max(2, round(best_fraction * len(order)))].tolist()
    return chosen


def _clean_halves(first: Drizzle, second: Drizzle) -> tuple[list[FloatArray], int]:
    """Images of the two halves without cosmic rays, and the number of pixels hit: a cosmic ray is in one half only."""
    if not second.n_frames:
        return [first.image()], 0
    one, other, hits = coincident_mask(first.image(), second.image())
    return [one, other], hits


def _halves(work: Workspace) -> tuple[tuple[FloatArray, FloatArray], float]:
    """Two means of the frames without sky, and the sky."""
    mean, header = work.read("{id}_registered.fits")
    if header["NCOMBINE"] < 2:
        raise Unprocessable("a single frame: its noise cannot be distinguished from the object, nothing is deconvolved")
    sky = sky_below(mean)
    first, second = (work.read("{id}_registered.fits", f"HALF{i}")[0] - np.float32(sky) for i in (1, 2))
    return (first, second), sky


def _best_psf(work: Workspace, halves: tuple[FloatArray, FloatArray], pixel_arcsec: float) -> tuple[FloatArray, str]:
    """PSF whose model of one half of the frames predicts the other best, and where it comes from.

    The turbulence was not the same when the star was observed, so that its strength is fitted, too.
    """
    response = stack_response(work, SCALE)
    stars = _library_psfs(work, pixel_arcsec)
    if not stars:
        return _best_of(work, halves, _models(work, pixel_arcsec, response))
    perfect = diffraction_limited_psf(require_optics(work), pixel_arcsec, len(stars[0][0]), response)
    usual = [(alternative_turbulence(psf, perfect, USUAL_STRENGTH), name) for psf, name in stars]
    _, star = _best_of(work, halves, usual)
    psf = dict((name, psf) for psf, name in stars)[star]
    return _best_of(work, halves, [(alternative_turbulence(psf, perfect, strength), star) for strength in STRENGTHS])


def _best_of(
    work: Workspace, halves: tuple[FloatArray, FloatArray], candidates: Sequence[tuple[FloatArray, str]]
) -> tuple[FloatArray, str]:
    """PSF that predicts best; of several that are as good, the widest: it explains the data most simply."""
    middle = _object_part(work, halves[0].shape, MAX_TRIED_PX)
    parts = [half[middle] for half in halves]
    misfits = []
    for number, (psf, name) in enumerate(candidates):
        work.progress(0.5 * number / len(candidates), f"trying the PSF of {name}")
        misfits.append(predicted_best(parts[0], parts[1], psf)[1])
    as_good = [item for item, misfit in zip(candidates, misfits, strict=True) if misfit <= AS_GOOD * min(misfits)]
    return max(as_good, key=lambda item: _effective_area(item[0]))


def _effective_area(psf: FloatArray) -> float:
    """Effective area of a PSF: squared flux over the sum of squares [pixel]."""
    clean = np.maximum(np.nan_to_num(psf), 0)
    return float(clean.sum() ** 2 / np.sum(clean**2))


def _library_psfs(work: Workspace, pixel_arcsec: float) -> list[tuple[FloatArray, str]]:
    """Stars of the library near in time: only those of the same night, if there are any."""
    observation = work.observation
    library = PsfLibrary.read(work.layout).select(
        telescope=str(observation.document.get("telescope") or ""),
        filter=observation.filter,
        stack="100p",
        pixel_arcsec=pixel_arcsec,
        but=observation,
    )
    own = [entry for entry in library.entries if entry.night == observation.night]
    near = sorted(own or library.entries, key=lambda entry: abs(entry.date_utc - observation.date_utc))
    chosen = replace(library, entries=tuple(near[:MAX_CANDIDATES]))
    return [(stamp, entry.observation) for stamp, entry in zip(chosen.stamps, chosen.entries, strict=True)]


def _models(work: Workspace, pixel_arcsec: float, response: tuple[float, ...]) -> list[tuple[FloatArray, str]]:
    """PSFs of several Strehl ratios: the telescope's core on a halo of the seeing."""
    optics = require_optics(work)
    seeing = work.observation.number(SEEING_NEAREST_ARCSEC) or work.observation.number(SEEING_MEDIAN_ARCSEC)
    halo = (seeing or MODEL_SEEING_ARCSEC) / pixel_arcsec
    states = itertools.product(MODEL_STREHLS, [factor * halo for factor in MODEL_HALOS])
    return [(model_psf(optics, pixel_arcsec, MODEL_SIDE, response, state), "model") for state in states]


def _object_part(work: Workspace, shape: tuple[int, ...], most_px: float = np.inf) -> tuple[slice, slice]:
    """Part of the stack that holds the object, or its middle."""
    results = work.results("reduce")
    spans = []
    for centre, side, n in zip(results["lock_position"], results["object_px"], shape, strict=True):
        half = min(SCALE * side, most_px) / 2
        spans.append(slice(max(int(centre - half), 0), min(int(centre + half) + 1, n)))
    return spans[0], spans[1]


def _table(found: Registered) -> bytes:
    """Shifts of the frames, sharpest first, then the rejected ones."""
    comments = [
        "Frames in the order of their sharpness; rejected ones follow, with the reason.",
        "dy, dx: shift that moves the frame onto the others [raw pixel]; sharpness: 1 for the usual;",
        "light: of the object, 1 for the usual.",
        "frame  sharpness      light         dy         dx  left_out",
    ]

    def columns(i: int) -> str:
        dy, dx = found.shifts[i]
        return f"{found.sharpness[i]:10.4f} {found.light[i]:10.4f} {dy:10.3f} {dx:10.3f}"

    return frame_table(comments, found.ranked(found.sharpness), columns, found.reasons)
