"""Light curves of the Transiting Exoplanet Survey Satellite (TESS), from MAST.

The service: https://mast.stsci.edu/api/v0/. The mission: Ricker et al. (2015, JATIS 1, 014003); its input catalogue:
Stassun et al. (2019, AJ 158, 138).
"""

import io
import json
from collections.abc import Iterator, Mapping
from time import sleep
from typing import Any, ClassVar

import numpy as np
from astropy.io import fits

from obsarchive.remote.http import RequestRefusedError, ServerUnavailableError
from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import Columns
from surveys.observatory import Fetched, Row, VirtualObservatory
from surveys.observatory.parameters import ParsObservatory

SERVICE = "https://mast.stsci.edu"
ASK, DOWNLOAD = "/api/v0/invoke", "/api/v0.1/Download/file"
POLLS, POLL_S = 30, 2.0
ZERO_POINT = 20.44
"""TESS magnitude of one electron a second (TESS Instrument Handbook)."""
KEPT = ("TICID", "SECTOR", "CAMERA", "CCD", "TESSMAG", "TEFF", "RADIUS", "OBJECT")
LIGHT_CURVE = "_lc.fits"


class ParsTESS(ParsObservatory):
    """Parameters of TESS."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.set_default("base_url", SERVICE)
        self.cone_radius = self.add_par(
            "cone_radius", 360.0, float, "where targets are looked for", unit="arcsec", least=0
        )
        self.max_distance = self.add_par(
            "max_distance", 10.0, float, "largest distance of the target", unit="arcsec", least=0
        )
        self.mag_difference = self.add_par(
            "mag_difference", 0.75, float, "largest difference from the magnitude of Gaia", unit="mag", least=0
        )
        self.flux_type = self.add_par("flux_type", "PDCSAP", str, "PDCSAP (systematics removed) or SAP")


class VirtualTESS(VirtualObservatory):
    """TESS; one light curve for each sector."""

    pars_class = ParsTESS
    name = "TESS"
    filter_names: ClassVar = {"TESS": "TESS"}

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:  # noqa: ARG002 - takes none
        """Return the light curves of a source in all sectors; none if it was no target.

        Parameters
        ----------
        cat_row : mapping
            ``ra``, ``dec`` [deg] and ``mag`` (Gaia G) of the source.
        **kwargs
            Ignored.

        Returns
        -------
        data, altdata
            As of `fetch_by_ticid`.
        """
        target = self._target(cat_row)
        return self.fetch_by_ticid(target) if target is not None else (None, {})

    def fetch_by_ticid(self, ticid: int | str) -> Fetched:
        """Return the light curves of an entry of the TESS input catalogue.

        Returns
        -------
        data : dict of ndarray (n,) or None
            bjd [d], flux, flux_err [e-/s], quality and sector of all sectors; None: there are no data.
        altdata : dict
            Header values, zero point, exposure time and sectors.
        """
        parts = [self._light_curve(self.client.get(DOWNLOAD, {"uri": uri}).content, uri) for uri in self._files(ticid)]
        if not parts:
            return None, {"TICID": str(ticid)}
        columns = {name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]}
        facts = {**parts[-1][1], "TICID": str(ticid), "filter": "TESS", "time_scale": "bjd"}
        facts["sectors"] = [part[1].get("SECTOR") for part in parts]
        facts["zero_point"] = ZERO_POINT
        return columns, facts

    def _target(self, cat_row: Row) -> str | None:
        """Return the TIC number of the nearest entry of similar magnitude, or None."""
        ra, dec, mag = float(cat_row["ra"]), float(cat_row["dec"]), cat_row.get("mag")
        cone = {"ra": ra, "dec": dec, "radius": self.pars.cone_radius / 3600}
        best, least = None, self.pars.max_distance
        for entry in self._ask("Mast.Catalogs.Tic.Cone", cone):
            theirs = entry.get("GAIAmag")
            if mag is not None and (theirs is None or abs(float(theirs) - float(mag)) >= self.pars.mag_difference):
                continue
            east, north = tangent_plane_offsets(np.array([entry["ra"]]), np.array([entry["dec"]]), (ra, dec))
            distance = float(np.hypot(east[0], north[0]))
            if distance < least:
                best, least = str(entry["ID"]), distance
        return best

    def _files(self, ticid: int | str) -> Iterator[str]:
        """Yield the addresses of light curves: for each sector the one with the standard cadence."""
        filters = {"obs_collection": ["TESS"], "dataproduct_type": ["timeseries"], "target_name": [str(ticid)]}
        query = {"columns": "*", "filters": [{"paramName": name, "values": value} for name, value in filters.items()]}
        found: dict[Any, str] = {}
        for observation in self._ask("Mast.Caom.Filtered", query):
            for product in self._ask("Mast.Caom.Products", {"obsid": observation["obsid"]}):
                if str(product.get("productFilename", "")).endswith(LIGHT_CURVE) and product.get("dataURI"):
                    found.setdefault(observation.get("sequence_number", product["dataURI"]), product["dataURI"])
        yield from (found[sector] for sector in sorted(found, key=str))

    def _ask(self, service: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the answer of MAST, which is polled until it is complete."""
        request = {"service": service, "params": parameters, "format": "json", "pagesize": 5000, "page": 1}
        for _ in range(POLLS):
            answer = self.client.post(ASK, {"request": json.dumps(request)})
            try:
                found = answer.json()
            except ValueError as err:
                raise ServerUnavailableError(f"MAST answered no JSON to {service}: {answer.text[:200]!r}") from err
            match found.get("status"):
                case "COMPLETE":
                    return list(found.get("data") or [])
                case "EXECUTING":
                    sleep(POLL_S)
                case status:
                    raise RequestRefusedError(f"MAST answered {status} to {service}: {str(found.get('msg'))[:200]}")
        raise ServerUnavailableError(f"MAST is still busy with {service} after {POLLS} questions")

    def _light_curve(self, content: bytes, uri: str) -> tuple[Columns, dict[str, Any]]:
        """Return the epochs of a sector and the header values in `KEPT`."""
        flux_name = f"{self.pars.flux_type}_FLUX"
        try:
            with fits.open(io.BytesIO(content), memmap=False) as file:
                table, header = file[1].data, {**file[0].header, **file[1].header}
                start = float(header.get("BJDREFI", 0)) + float(header.get("BJDREFF", 0))
                columns: Columns = {
                    "bjd": start + np.asarray(table["TIME"], np.float64),
                    "flux": np.asarray(table[flux_name], np.float64),
                    "flux_err": np.asarray(table[f"{flux_name}_ERR"], np.float64),
                    "quality": np.asarray(table["QUALITY"], np.int32),
                }
        except (OSError, KeyError, IndexError, TypeError, ValueError) as err:
            raise RequestRefusedError(f"{uri}: no light curve of TESS: {err}") from err
        known = np.isfinite(columns["bjd"])
        columns = {name: values[known] for name, values in columns.items()}
        columns["sector"] = np.full(int(known.sum()), int(header.get("SECTOR", 0)), np.int16)
        # the exposure time of the header is that of the whole sector; that of an epoch is the cadence
        exptime = float(np.median(np.diff(columns["bjd"])) * 86400) if known.sum() > 1 else None
        facts = {name: header[name] for name in KEPT if header.get(name) is not None}
        return columns, {**facts, "exptime": exptime}

    def reduce_photometry(
        self,
        dataset: RawPhotometry,
        gap: float = 5.0,
        radius: float = 0.0,
        mag_range: float = 0.0,
        drop_flagged: bool = False,
        drop_bad: bool = False,
    ) -> list[Lightcurve]:
        """Return a light curve for each sector.

        The zero point is that of the instrument handbook, or that of the star itself if its TESS magnitude is known, as
        the fraction of light in the aperture differs between stars.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data.
        gap : float
            A new light curve starts where no epoch follows for this time [d]; 0: no split.
        radius, mag_range : float
            Limits of the distance [arcsec] and the magnitude [mag]; 0: none.
        drop_flagged, drop_bad : bool
            Whether flagged epochs are rejected.

        Returns
        -------
        list of Lightcurve

        Raises
        ------
        Unprocessable
            Data without times or fluxes.
        """
        magnitude = dataset.altdata.get("TESSMAG")
        flux = dataset.columns.get("flux", np.empty(0))
        middle = float(np.nanmedian(flux)) if np.isfinite(flux).any() else 0.0
        if magnitude is not None and middle > 0:
            zero_point = float(magnitude) + 2.5 * np.log10(middle)
            facts = {**dataset.altdata, "zero_point": float(zero_point)}
            dataset = RawPhotometry(dataset.columns, facts, observatory=self.name)
        return super().reduce_photometry(dataset, gap, radius, mag_range, drop_flagged, drop_bad)
