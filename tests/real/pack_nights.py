"""Packs real sequences of frames into raw nights as the daemon reads them, with the configuration of their telescopes.

The pixels are those of the instruments, bit for bit. Headers keep what the instrument wrote, string-valued world
coordinates and all, and gain the keys that the archive reads where their values are known. By hand::

    python tests/real/pack_nights.py ../shared/data /tmp/real
    python archiver.py /tmp/real/config.json --once
"""

import argparse
import bz2
import gzip
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from obsarchive.simulation.night import write_raw

Cards = Mapping[str, Any]


@dataclass(frozen=True)
class Sequence:
    """One observation of the test data.

    Parameters
    ----------
    pattern : str
        Its source files below the data folder, in the order of their frames when sorted by `taken`.
    identity : str
        Observation name up to the date.
    taken : callable
        Start of the exposure [UTC] from the header of a source file.
    cards : callable
        Keys that the archive reads, from the header of the first source file.
    as_written : bool
        The instrument wrote one file a frame: they are kept byte for byte and continue each other.
    """

    pattern: str
    identity: str
    taken: Callable[[Cards], datetime]
    cards: Callable[[Cards], dict[str, Any]] = lambda header: {}
    as_written: bool = False

    def sources(self, data: Path) -> list[Path]:
        """Source files in the order in which they were taken."""
        return sorted(data.glob(self.pattern), key=lambda path: self.taken(read_source(path)[0]))

    def observation(self, data: Path) -> str:
        """Name of the observation: identity, date and time of its first frame."""
        start = self.taken(read_source(self.sources(data)[0])[0])
        return f"{self.identity}_{start:%Y%m%d_%H%M%S.%f}"


def _date_obs(header: Cards) -> datetime:
    return datetime.fromisoformat(str(header["DATE-OBS"])).replace(tzinfo=UTC)


def _date_and_utc(header: Cards) -> datetime:
    return datetime.fromisoformat(f"{header['DATE-OBS'].strip()}T{header['UTC'].strip()}").replace(tzinfo=UTC)


def _absil_night(header: Cards) -> datetime:
    """Night of Absil et al. (2013, A&A 559, L12); the planes carry neither date nor time."""
    return datetime(2013, 2, 1, tzinfo=UTC)


def _dct_cards(header: Cards) -> dict[str, Any]:
    return {
        "OBJECT": header["SCITARG"],
        "EXPOSURE": header["EXPTIME"],
        "AZIMUTH": header["TELAZ"],
        "ELVATION": header["TELALT"],
        "FILTER": header["RC1_FLNM"],
        "UTC": header["DATE-OBS"],
    }


def _c8_cards(header: Cards) -> dict[str, Any]:
    """TELRA and the like; the exposure is the first frame's, others of the sweep differ."""
    return {
        "TELRA": header["OBJCTRA"].replace(" ", ":"),
        "TELDEC": header["OBJCTDEC"].replace(" ", ":"),
        "EQUINOX": 2000.0,
        "UTC": header["DATE-OBS"],
    }


def _naco_cards(header: Cards) -> dict[str, Any]:
    """Position of beta Pictoris in SIMBAD; exposure and conditions are not known."""
    return {"OBJECT": "beta Pic", "OBJRA": "05h47m17.09s", "OBJDEC": "-51:03:59.4", "EQUINOX": 2000.0, "FILTER": "Lp"}


SEQUENCES = {
    "dct": Sequence("rapid_frames/dct_focus_2s/*.fits", "1_UCAC4-661-003227_GWAVES_R_o", _date_obs, _dct_cards),
    "c8": Sequence("rapid_frames/c8_focus/*.FIT.gz", "2_Target_ASI_R_o", _date_obs, _c8_cards),
    "nirc2": Sequence("ao_dither/nirc2_hd1160/*.fits.gz", "3_HD1160_NIRC2_H_o", _date_and_utc, as_written=True),
    "naco": Sequence(
        "psfsub/naco_betapic_third/naco_betapic_third_cube.fits", "4_beta_Pic_NACO_Lp_o", _absil_night, _naco_cards
    ),
}

TELESCOPES: dict[str, dict[str, Any]] = {
    "Lowell_DCT": {
        "cameras": ["GWAVES"],
        "primary_m": 4.28,
        "secondary_m": 1.41,
        "plate_scale_arcsec": 0.336,
        "detector_px": [264, 268],
        "filters": {"R": {"wavelength_nm": 641, "width_nm": 158}},
    },
    "C8": {
        # The headers say R, the names of the same files W: the filter is not known, and has no passband here.
        "cameras": ["ASI"],
        "primary_m": 0.203,
        "secondary_m": 0.064,
        "plate_scale_arcsec": 0.560,  # 3.8 um at the 1400 mm of the header
        "detector_px": [3520, 4656],
        "filters": {},
    },
    "Keck_II": {
        "cameras": ["NIRC2"],
        "primary_m": 10.0,
        "secondary_m": 2.4,
        "plate_scale_arcsec": 0.009971,  # narrow camera since 2015: Service et al. (2016, PASP 128, 095004)
        "detector_px": [1024, 1024],
        "filters": {"H": {"wavelength_nm": 1633, "width_nm": 296}},
    },
    "VLT_UT4": {
        "cameras": ["NACO"],
        "primary_m": 8.2,
        "secondary_m": 1.12,
        "plate_scale_arcsec": 0.02719,
        "detector_px": [1024, 1024],
        "filters": {"Lp": {"wavelength_nm": 3800, "width_nm": 620}},
    },
}


def read_source(path: Path) -> tuple[fits.Header, np.ndarray]:
    """Header and pixels of the first HDU of a source file; what may follow it is not looked at."""
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):  # NIRC2 pads its headers with zeros
        hdu = fits.PrimaryHDU.fromstring(_plain(path))
        return hdu.header.copy(), hdu.data.copy()


def _plain(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def pack(data: Path, raw: Path) -> dict[str, str]:
    """Pack every sequence into its night below `raw`; the observations' names by sequence are returned.

    Parameters
    ----------
    data : Path
        Folder of the test data.
    raw : Path
        Folder of nightly directories.
    """
    names = {}
    for key, sequence in SEQUENCES.items():
        names[key] = name = sequence.observation(data)
        night = raw / night_of(name)
        night.mkdir(parents=True, exist_ok=True)
        if sequence.as_written:
            _copy_files(sequence.sources(data), night / name)
        else:
            _pack_frames(sequence, sequence.sources(data), night / name)
    return names


def night_of(observation: str) -> str:
    """Night ``yyyymmdd`` of an observation."""
    return observation.split("_")[-2]


def _copy_files(sources: list[Path], target: Path) -> None:
    for part, source in enumerate(sources, start=-1):
        name = target.name if part < 0 else f"{target.name}_{part}"
        target.with_name(f"{name}.fits.bz2").write_bytes(bz2.compress(_plain(source)))


def _pack_frames(sequence: Sequence, sources: list[Path], target: Path) -> None:
    header, pixels = read_source(sources[0])
    cards = {**_describing(header), **sequence.cards(header)}
    path = target.with_name(f"{target.name}.fits.bz2")
    if pixels.ndim == 3:
        primary = fits.PrimaryHDU(pixels, fits.Header(cards))
        with bz2.open(path, "wb") as out:
            primary.writeto(out)
    else:
        write_raw(path, _pixels(sources), len(sources), cards)


def _describing(header: fits.Header) -> dict[str, Any]:
    """Cards that say nothing of how the pixels are stored."""
    kept = header.copy(strip=True)
    return {key: kept[key] for key in kept if key not in ("", "COMMENT", "HISTORY", "EXTEND")}


def _pixels(sources: list[Path]) -> Iterator[np.ndarray]:
    return (read_source(source)[1] for source in sources)


def configuration(folder: Path, port: int = 0) -> dict[str, Any]:
    """Configuration of an archive of the packed nights: the shipped pipelines, these telescopes.

    Parameters
    ----------
    folder : Path
        Holds the raw nights in ``raw``; the archive goes beside them.
    port : int
        Of the portal.
    """
    return {
        "server": {"port": port},
        "paths": {
            "raw": [str(folder / "raw")],
            "archive": str(folder / "archive"),
            "tmp": str(folder / "tmp"),
            "logs": str(folder / "logs"),
        },
        "parallel": {"n_workers": 2, "memory_limit_gb": 1.5, "job_timeout_s": 120},
        "daemon": {"loop_interval_s": 0.3, "settle_time_s": 0.2, "max_retries": 0, "min_free_gb": 0},
        "telescope": TELESCOPES,
        "calibration": {"required": False},
        "pipelines": [{"class": "pipelines.night.Calibration"}, {"class": "pipelines.bright_star.BrightStar"}],
    }


def main() -> None:
    """Pack the nights and write the configuration beside them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder of the test data")
    parser.add_argument("folder", type=Path, help="gets raw/ and config.json")
    options = parser.parse_args()
    folder = options.folder.absolute()
    pack(options.data, folder / "raw")
    (folder / "config.json").write_text(json.dumps(configuration(folder), indent=2))


if __name__ == "__main__":
    main()
