"""Light curves of the Zwicky Transient Facility (ZTF), from the service of IRSA.

The service: https://irsa.ipac.caltech.edu/docs/program_interface/ztf_lightcurve_api.html. The survey: Bellm et al.
(2019, PASP 131, 018002), Masci et al. (2019, PASP 131, 018003).
"""

import io
import threading
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsarchive.remote.http import RequestRefusedError
from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry
from surveys.observatory import Fetched, Row, VirtualObservatory
from surveys.observatory.parameters import ParsObservatory

SERVICE = "https://irsa.ipac.caltech.edu"
PATH, LOGIN = "/cgi-bin/ZTF/nph_light_curves", "/account/signon/login.do"
NEEDED = {"oid", "mjd", "mag", "magerr", "catflags", "filtercode", "ra", "dec"}
PM_YEARS = 3e-3
"""The search circle grows by this many years of proper motion [arcsec per mas/yr]."""


class ParsZTF(ParsObservatory):
    """Parameters of ZTF."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.set_default("base_url", SERVICE)
        self.cone_radius = self.add_par("cone_radius", 2.0, float, "radius of the search", unit="arcsec", least=0)
        self.min_dec = self.add_par("min_dec", -30.0, float, "sources south of it are not requested", unit="deg")
        self.max_mag = self.add_par("max_mag", 20.5, float, "fainter sources are not requested", unit="mag")


class VirtualZTF(VirtualObservatory):
    """ZTF; credentials are needed for proprietary data only."""

    pars_class = ParsZTF
    name = "ZTF"
    filter_names: ClassVar = {"zg": "g", "zr": "r", "zi": "i"}

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._login = threading.Lock()
        self._is_known = False

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_login": None}

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        """Return all epochs within a cone around a source; none outside of the survey's limits.

        Parameters
        ----------
        cat_row : mapping
            ``name``, ``ra``, ``dec`` [deg], and optionally ``mag`` and ``pmra``, ``pmdec`` [mas/yr].
        **kwargs
            ``radius`` of the cone [arcsec], and other parameters of the service.

        Returns
        -------
        data : DataFrame or None
            Columns of the service; None: there are no data.
        altdata : dict
            The radius that was used, or why nothing was requested.
        """
        pars, mag = self.pars, cat_row.get("mag")
        if float(cat_row["dec"]) < pars.min_dec or (mag is not None and float(mag) > pars.max_mag):
            return None, {"skipped": "outside of what ZTF sees"}
        motion = np.hypot(float(cat_row.get("pmra") or 0.0), float(cat_row.get("pmdec") or 0.0))
        radius = float(kwargs.pop("radius", pars.cone_radius)) + PM_YEARS * motion
        self._sign_in()
        question = {
            "POS": f"CIRCLE {float(cat_row['ra']):.7f} {float(cat_row['dec']):.7f} {radius / 3600:.7f}",
            "FORMAT": "CSV",
            **{key.upper(): value for key, value in kwargs.items()},
        }
        data = self._table(self.client.get(PATH, question).text)
        return (data if len(data) else None), {"search_radius_arcsec": radius}

    def _table(self, text: str) -> pd.DataFrame:
        try:
            # object identifiers have more digits than a float
            data = pd.read_csv(io.StringIO(text), dtype={"oid": "int64", "expid": "int64"})
        except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as err:
            raise RequestRefusedError(f"ZTF answered no table: {text[:200]!r}") from err
        lacking = NEEDED.difference(data.columns)
        if lacking:
            raise RequestRefusedError(f"ZTF answered a table without {', '.join(sorted(lacking))}: {text[:200]!r}")
        return data

    def _sign_in(self) -> None:
        """Log in once, if there are credentials; they are sent in the body of the request, never in the URL."""
        if self._is_known or not self.pars.credentials:
            return
        with self._login:
            if not self._is_known:
                form = {"josso_cmd": "login", "josso_username": self.secret("username")}
                self.client.post(LOGIN, {**form, "josso_password": self.secret("password")})
                self._is_known = True

    def reduce_photometry(
        self,
        dataset: RawPhotometry,
        gap: float = 40.0,
        radius: float = 3.0,
        mag_range: float = 0.75,
        drop_flagged: bool = False,
        drop_bad: bool = False,
    ) -> list[Lightcurve]:
        """Return a light curve for each ZTF object, filter and season.

        An object has a number (``oid``) for each field, detector and filter; their zero points differ slightly, so they
        are kept apart. Positions of single epochs are affected by seeing, so the median position of an object is
        compared.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data.
        gap : float
            A season ends where no epoch follows for this time [d]; 0: no split.
        radius : float
            Objects farther than this from the source are rejected [arcsec]; 0: no limit.
        mag_range : float
            Light curves whose median differs by more than this from the catalogue are rejected [mag]; 0: no limit.
        drop_flagged, drop_bad : bool
            Whether flagged epochs are rejected.

        Returns
        -------
        list of Lightcurve
            With ``oid`` in their metadata.

        Raises
        ------
        Unprocessable
            Data without times, or without magnitudes.
        """
        if "oid" not in dataset.columns:  # a file of the user
            return super().reduce_photometry(dataset, gap, radius, mag_range, drop_flagged, drop_bad)
        dataset.remarks = []
        columns = standard_photometry(dataset.columns, dataset.altdata, also=["oid"], remarks=dataset.remarks)
        oid = columns.pop("oid")
        curves = []
        for number in np.unique(oid).tolist():
            own = oid == number
            if radius > 0 and _distance_arcsec(columns, own, dataset) > radius:
                continue
            keep = own & ~columns["flag"] if drop_flagged or drop_bad else own
            found = self.split(dataset, columns, keep, gap, mag_range)
            for curve in found:
                curve.altdata["oid"] = number
            curves += found
        return curves


def _distance_arcsec(columns: Columns, own: NDArray[np.bool_], dataset: RawPhotometry) -> float:
    """Return the distance of the median position of some epochs from the source; 0 if its position is unknown."""
    facts = dataset.altdata
    if facts.get("ra") is None or facts.get("dec") is None:
        return 0.0
    position = float(facts["ra"]), float(facts["dec"])
    east, north = tangent_plane_offsets(columns["ra"][own], columns["dec"][own], position)
    return float(np.hypot(np.nanmedian(east), np.nanmedian(north)))
