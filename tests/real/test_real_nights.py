"""Real sequences through the daemon as any night: what it makes of them agrees with photutils and SEP."""

import bz2
import gzip
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.io import fits
from pack_nights import SEQUENCES, configuration, night_of, pack, read_source
from photutils.centroids import centroid_2dg
from scipy import ndimage, stats

from obsarchive.config.loading import load
from obsarchive.core.archive_paths import Layout
from obsarchive.database.connect import open_store
from obsarchive.database.embedded_mongod import Server
from tests.forked import DAEMON, Forked
from tests.services import running_services, with_services

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", PROJECT.parent / "shared" / "data"))

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}"),
]
every_sequence = pytest.mark.parametrize("key", SEQUENCES)

N_FRAMES = {"dct": 6, "c8": 6, "nirc2": 3, "naco": 21}
APERTURE_PX = {"dct": 12, "c8": 60, "nirc2": 60, "naco": 40}
"""Radius that holds the largest image of the star, but no neighbour."""
BOX_PX = 3
"""Side of the box whose share of the star's light says how sharp an image is."""


@dataclass
class Reduced:
    """What the daemon left."""

    names: dict[str, str]
    said: str
    documents: dict[str, dict]
    nights: dict[str, dict]
    raw: Path
    layout: Layout

    def folder(self, key: str) -> Path:
        return self.layout.observation(night_of(self.names[key]), self.names[key]) / "bright_star"

    def steps(self, key: str) -> dict[str, dict]:
        return self.documents[self.names[key]]["pipelined"]["bright_star"]["steps"]

    def frames(self, key: str) -> dict[int, dict]:
        """frames.txt: position, quality and reason by frame, best first."""
        lines = (self.folder(key) / "frames.txt").read_text().splitlines()
        rows = [line.split() for line in lines if not line.startswith("#")]
        return {
            int(row[0]): {"quality": float(row[1]), "yx": np.array([float(row[5]), float(row[4])]), "left_out": row[-1]}
            for row in rows
        }

    def image(self, key: str, product: str) -> tuple[np.ndarray, fits.Header]:
        with fits.open(self.folder(key) / product) as hdus:
            image = hdus[0].data.astype(float)
            return np.nan_to_num(image - np.nanmedian(image)), hdus[0].header.copy()


@pytest.fixture(scope="session")
def reduced(tmp_path_factory: pytest.TempPathFactory, mongo_server: Server, scheduler: str) -> Reduced:
    """Raw nights packed from the test data, reduced by one run of the daemon as its operator would start it."""
    folder = tmp_path_factory.mktemp("real")
    names = pack(DATA, folder / "raw")
    config_file = folder / "config.json"
    services = running_services(mongo_server, scheduler)
    config_file.write_text(json.dumps(with_services(configuration(folder), services)))
    daemon = Forked(DAEMON, [str(config_file), "--once"], PROJECT)
    said, _ = daemon.communicate(timeout=240)
    assert daemon.returncode == 0, said
    config = load(config_file)
    with open_store(config) as store:
        documents, nights = ({d["_id"]: d for d in store.database[name].find()} for name in ("objects", "aux"))
    return Reduced(names, said, documents, nights, folder / "raw", Layout(config.paths.archive))


# an independent look at the frames


@pytest.fixture(scope="session")
def raw_frames() -> dict[str, list[np.ndarray]]:
    """Frames of each sequence from its sources, minus their median."""
    frames = {}
    for key, sequence in SEQUENCES.items():
        pixels = [read_source(path)[1].astype(float) for path in sequence.sources(DATA)]
        planes = pixels[0] if pixels[0].ndim == 3 else pixels
        frames[key] = [plane - np.median(plane) for plane in planes]
    return frames


def star_centre(frame: np.ndarray) -> tuple[float, float]:
    """Centre of light of the largest source; smoothed and thresholded, so that a donut is one source."""
    smooth = ndimage.gaussian_filter(frame, 2)
    labels, n = ndimage.label(smooth > 6 * 1.4826 * np.median(np.abs(smooth)))
    brightest = 1 + int(np.argmax(ndimage.sum_labels(frame, labels, np.arange(1, n + 1))))
    return ndimage.center_of_mass(np.where(labels == brightest, frame, 0))


def core_centre(frame: np.ndarray) -> tuple[float, float]:
    """Core of a star under adaptive optics, fitted with a Gaussian by photutils."""
    y, x = (round(c) for c in star_centre(frame))
    near = ndimage.gaussian_filter(frame, 2)[y - 12 : y + 13, x - 12 : x + 13]
    y, x = np.array([y, x]) - 12 + np.unravel_index(np.argmax(near), near.shape)
    fitted = centroid_2dg(frame[y - 6 : y + 7, x - 6 : x + 7])
    return y - 6 + fitted[1], x - 6 + fitted[0]


def half_light_radius(frame: np.ndarray, aperture_px: float) -> float:
    """Half-light radius of the star by SEP [pixel]: the smaller, the sharper."""
    y, x = star_centre(frame)
    flux = sep.sum_circle(frame, [x], [y], aperture_px)[0]
    radius, _ = sep.flux_radius(frame, [x], [y], [aperture_px], 0.5, normflux=flux, subpix=5)
    return float(radius[0])


def flux(frame: np.ndarray, aperture_px: float) -> float:
    y, x = star_centre(frame)
    return float(sep.sum_circle(frame, [x], [y], aperture_px)[0][0])


def core_fraction(image: np.ndarray, box_px: int, total: float) -> float:
    """Share of the star's light in the box that holds most of it."""
    return float(ndimage.uniform_filter(image, box_px).max()) * box_px**2 / total


# packing


@every_sequence
def test_pixels_are_untouched(reduced: Reduced, key: str) -> None:
    night = reduced.raw / night_of(reduced.names[key])
    sources = SEQUENCES[key].sources(DATA)
    if SEQUENCES[key].as_written:
        suffixes = ["", *(f"_{part}" for part in range(len(sources) - 1))]
        for source, suffix in zip(sources, suffixes, strict=True):
            packed = night / f"{reduced.names[key]}{suffix}.fits.bz2"
            assert bz2.decompress(packed.read_bytes()) == gzip.decompress(source.read_bytes())
        return
    with fits.open(night / f"{reduced.names[key]}.fits.bz2") as hdus:
        packed = [hdu.data for hdu in hdus]
    originals = [read_source(source)[1] for source in sources]
    for mine, original in zip(packed, originals, strict=True):
        assert mine.dtype.newbyteorder("=") == original.dtype.newbyteorder("=")
        np.testing.assert_array_equal(mine, original)


def test_the_files_of_nirc2_hold_more_than_their_header_says() -> None:
    content = gzip.decompress(SEQUENCES["nirc2"].sources(DATA)[0].read_bytes())
    cards = content.index(b"END" + b" " * 77) + 80
    announced = -(-cards // 2880) * 2880 + -(-512 * 512 * 4 // 2880) * 2880
    assert len(content) > announced


# states


def test_nothing_failed(reduced: Reduced) -> None:
    steps = [step for key in SEQUENCES for step in reduced.steps(key).items()]
    steps += [step for night in reduced.nights.values() for step in night["calib"]["steps"].items()]
    assert len(steps) == 4 * len(SEQUENCES) + 2 * len(reduced.nights)
    assert {record["state"] for _, record in steps} == {"done", "rejected", "lacking"}
    assert "Traceback" not in reduced.said


@every_sequence
def test_what_cannot_be_computed_says_why(reduced: Reduced, key: str) -> None:
    calibration = reduced.nights[night_of(reduced.names[key])]["calib"]["steps"]
    for kind in ("dark", "flat"):
        record = calibration[f"{kind}s"]
        assert (record["state"], f"no {kind} files" in record["message"]) == ("lacking", True)
    steps = reduced.steps(key)
    # the frames of beta Pictoris have a hot pixel twice as bright as all around it, at (12, 50)
    hot = ", 1 hot pixel of the frames" if key == "naco" else ""
    assert steps["reduce"]["results"]["calibration"] == f"no dark, no flat{hot}"
    assert (steps["reduce"]["state"], steps["preview"]["state"]) == ("done", "done")
    if key == "c8":  # a filter without passband
        assert steps["strehl"]["state"] == "rejected"
        assert "filter 'R' has no wavelength_nm and width_nm" in steps["strehl"]["message"]
    else:
        assert steps["strehl"]["state"] == "done"


def test_telescopes_came_by_configuration_alone(reduced: Reduced) -> None:
    found = {key: reduced.documents[name]["telescope"] for key, name in reduced.names.items()}
    assert found == {"dct": "Lowell_DCT", "c8": "C8", "nirc2": "Keck_II", "naco": "VLT_UT4"}


def test_headers_are_read_as_far_as_they_go(reduced: Reduced) -> None:
    documents = {key: reduced.documents[name] for key, name in reduced.names.items()}
    place = documents["dct"]["coordinates"]
    assert (place["ra_deg"], place["dec_deg"]) == pytest.approx((10.9593, 42.0504), abs=1e-3)  # TELRA, TELDEC
    assert (place["az_deg"], place["el_deg"]) == (57.44, 31.41)  # of the first frame taken, lastacq
    assert documents["c8"]["exposure_s"] == 3.0
    assert documents["nirc2"].get("exposure_s") is None  # its keys have other names, and nobody translated them
    assert {"key": "CAMNAME", "value": "narrow", "comment": "camera slider's named position"} in documents["nirc2"][
        "fits_header"
    ]


# science


@every_sequence
def test_every_frame_is_used(reduced: Reduced, key: str) -> None:
    """The telescope moved, the focus changed: no reason to lose a frame of a short sequence."""
    results = reduced.steps(key)["reduce"]["results"]
    assert (results["frames_total"], results["frames_used"]) == (N_FRAMES[key], N_FRAMES[key])
    assert {row["left_out"] for row in reduced.frames(key).values()} == {"-"}


@every_sequence
def test_the_order_follows_sharpness(reduced: Reduced, raw_frames: dict[str, list[np.ndarray]], key: str) -> None:
    order = list(reduced.frames(key))
    radii = np.array([half_light_radius(frame, APERTURE_PX[key]) for frame in raw_frames[key]])
    assert order[0] == int(np.argmin(radii)) or radii[order[0]] == pytest.approx(radii.min(), rel=0.02)
    # a peak and a half-light radius need not agree on two frames of nearly the same sharpness
    agreement = stats.spearmanr(np.arange(len(order)), radii[order]).statistic
    assert agreement >= (0.99 if key in ("c8", "nirc2") else 0.9)


@every_sequence
def test_shifts_agree_with_independent_centroids(
    reduced: Reduced, raw_frames: dict[str, list[np.ndarray]], key: str
) -> None:
    """Limits: core fits of AO frames agree to half a pixel; seeing discs with coma, donuts of 60 px by their size."""
    table = reduced.frames(key)
    ours = np.array([table[i]["yx"] for i in sorted(table)])
    centre = core_centre if key == "nirc2" else star_centre
    theirs = np.array([centre(frame) for frame in raw_frames[key]])
    difference = (ours - ours[0]) - (theirs - theirs[0])
    limit_px = {"dct": 0.5, "c8": 1.7, "nirc2": 0.5, "naco": 0.4}[key]
    assert np.hypot(*difference.T).max() < limit_px


@every_sequence
def test_the_best_frames_are_sharper(reduced: Reduced, raw_frames: dict[str, list[np.ndarray]], key: str) -> None:
    """The same box on the sky holds more of the star's light in 20p than in 100p, and than in the plain mean."""
    frames = raw_frames[key]
    mean_flux = np.mean([flux(frame, APERTURE_PX[key]) for frame in frames])
    plain = core_fraction(np.mean(frames, axis=0), BOX_PX, mean_flux)
    best, every = (
        core_fraction(image, 2 * BOX_PX, flux(image, 2 * APERTURE_PX[key]))
        for image in (reduced.image(key, name)[0] for name in ("20p.fits", "100p.fits"))
    )
    assert best > 1.02 * every
    assert best > 1.02 * plain
    assert every > 0.97 * plain  # the planes of beta Pic came registered: nothing to gain, drizzle's pixels to lose


@every_sequence
def test_the_star_is_where_the_header_says(reduced: Reduced, key: str) -> None:
    image, header = reduced.image(key, "100p.fits")
    y, x = star_centre(image)
    offset_px = np.hypot(header["GUIDEY"] - 1 - y, header["GUIDEX"] - 1 - x)
    assert offset_px < {"dct": 0.5, "c8": 1.5, "nirc2": 3.0, "naco": 1.0}[key]  # drizzled; the halo's centre for NIRC2


@every_sequence
def test_few_frames_leave_no_comb(reduced: Reduced, key: str) -> None:
    """Frames differ in sharpness and exposure: each output pixel must see all of them, not its own one or two."""
    image, header = reduced.image(key, "100p.fits")
    y, x = round(header["GUIDEY"] - 1) // 2 * 2, round(header["GUIDEX"] - 1) // 2 * 2
    half = 2 * APERTURE_PX[key]
    star = image[max(y - half, 0) : y + half, max(x - half, 0) : x + half]
    phases = [star[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
    # the four sample the star half a raw pixel apart: alike, unless it is hardly resolved
    assert np.ptp(phases) < 0.03 * np.mean(phases)
