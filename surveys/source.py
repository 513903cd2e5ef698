"""Sources: entries of a catalogue with their photometry and results."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from obsarchive.errors import ConfigError
from surveys.database import open_surveys
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.detection import Detection
from surveys.display import card
from surveys.formats.hdf5_light_curves import MissingDataError
from surveys.properties import Properties
from surveys.source_data import DatasetMixin

if TYPE_CHECKING:
    from obsarchive.science.light_curves.point_lens_model import Options, PointLens

LAZY = ("raw_photometry", "lightcurves", "detections")
FACTS = ("aliases", "mag_filter", "cat_row", "cat_index", "cat_name")
"""Optional values of a catalogue, beside name, coordinates and magnitude."""


class UniqueList(Sequence[Any]):
    """Objects by index, or by a name (in any case), which is that of their observatory."""

    def __init__(self, items: Sequence[Any], named: str = "observatory") -> None:
        self._items = list(items)
        self._names = [str(getattr(item, named)).upper() for item in items]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self._items[key]
        if key.upper() not in self._names:
            raise KeyError(f"nothing of {key}; there is {', '.join(sorted(set(self._names))) or 'nothing'}")
        return self._items[self._names.index(key.upper())]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"

    def __contains__(self, key: object) -> bool:
        return key.upper() in self._names if isinstance(key, str) else key in self._items


class Source:
    """An astronomical source.

    Parameters
    ----------
    name : str
        Its name in the catalogue, which identifies its data in all projects.
    ra, dec : float
        Coordinates [deg, ICRS].
    mag, mag_err : float, optional
        Magnitude and its error [mag].
    project : str
        Folder of the project of the results.
    **facts
        Other values of the catalogue: ``aliases``, ``mag_filter``, ``cat_row``, ``cat_index``, ``cat_name``.
    """

    def __init__(
        self,
        name: str,
        ra: float,
        dec: float,
        mag: float | None = None,
        mag_err: float | None = None,
        project: str = "",
        **facts: Any,
    ) -> None:
        self.name, self.ra, self.dec, self.mag, self.mag_err = str(name), float(ra), float(dec), mag, mag_err
        self.project = project
        self.aliases: list[str] = [str(alias) for alias in facts.pop("aliases", None) or ()]
        self.facts = facts

    @classmethod
    def from_row(cls, row: Mapping[str, Any], project: str = "") -> Self:
        """Return the source of a row of a catalogue.

        Parameters
        ----------
        row : mapping
            ``name``, ``ra``, ``dec`` [deg], and what else the catalogue has.
        project : str
            Folder of the project of the results.

        Returns
        -------
        Source
        """
        names = ("name", "ra", "dec", "mag", "mag_err", *FACTS)
        return cls(**{name: row[name] for name in names if name in row}, project=project)

    @property
    def cat_row(self) -> dict[str, Any]:
        """Row of the catalogue."""
        return {"name": self.name, "ra": self.ra, "dec": self.dec, "mag": self.mag, **self.facts.get("cat_row", {})}

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        return self.name

    @property
    def id(self) -> str:
        """Identifier in the database, by which data and results refer to the source: its name."""
        return self.name

    def document(self) -> dict[str, Any]:
        """Return the document for the database."""
        return {
            "_id": self.name,
            "ra_deg": self.ra,
            "dec_deg": self.dec,
            "geojson": {"type": "Point", "coordinates": [(self.ra + 180) % 360 - 180, self.dec]},
            "mag": self.mag,
            "mag_err": self.mag_err,
            "aliases": self.aliases,
            **self.facts,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the source of a document."""
        facts = {key: document[key] for key in FACTS if key in document}
        position = document["ra_deg"], document["dec_deg"]
        projects = document.get("projects") or [""]
        mag, mag_err = document.get("mag"), document.get("mag_err")
        return cls(document["_id"], *position, mag, mag_err, projects[0], **facts)

    def _documents(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        own = {"run": self.project} if kind != "raw_photometry" and self.project else {}
        return list(open_surveys().find(kind, {"source_name": self.name, **own, **query}))

    @cached_property
    def raw_photometry(self) -> UniqueList:
        """Raw photometry, one for each observatory."""
        found = [RawPhotometry.from_document(raw) for raw in self._documents("raw_photometry", state={"$ne": "failed"})]
        for raw in found:
            raw.place(self.ra, self.dec)
        return UniqueList(found)

    @property
    def raw_data(self) -> UniqueList:
        """Raw photometry; the same as `raw_photometry`."""
        return self.raw_photometry

    @cached_property
    def lightcurves(self) -> UniqueList:
        """Light curves of the project: the reduced ones, and those with scores where ``save_processed`` kept them."""
        return UniqueList([Lightcurve.from_document(found) for found in self._documents("lightcurves")])

    @property
    def reduced_lightcurves(self) -> list[Lightcurve]:
        """Light curves of the project without scores."""
        return [curve for curve in self.lightcurves if not curve.was_processed]

    @cached_property
    def processed_lightcurves(self) -> list[Lightcurve]:
        """Light curves with quality flags and scores: those of the analysis, later those that ``save_processed`` kept.

        A source that belongs to no project has none.
        """
        return [curve for curve in self.lightcurves if curve.was_processed] if self.project else []

    @cached_property
    def detections(self) -> list[Detection]:
        """Real events of the project, the strongest first."""
        found = [Detection.from_document(found) for found in self._documents("detections", simulated=False)]
        return sorted(found, key=lambda detection: -abs(detection.score))

    @cached_property
    def properties(self) -> Any:
        """Summary of the analysis (`Properties`); None before it."""
        found = self._documents("properties")
        return Properties.from_document(found[0]) if found else None

    def get_data(self, obs: str, data_type: str = "photometry", level: str = "raw") -> list[DatasetMixin]:
        """Return the data of an observatory that exist in the database and on disk.

        Parameters
        ----------
        obs : str
            Name of the observatory, in any case.
        data_type : str
            ``photometry``.
        level : str
            ``raw``, ``reduced`` or ``processed``.

        Returns
        -------
        list of DatasetMixin
            Raw photometry or light curves.

        Raises
        ------
        ConfigError
            Unknown type or level.
        """
        if data_type != "photometry" or level not in ("raw", "reduced", "processed"):
            raise ConfigError(f"no data of type {data_type!r} and level {level!r}: photometry; raw, reduced, processed")
        names = {"raw": "raw_photometry", "reduced": "reduced_lightcurves", "processed": "processed_lightcurves"}
        known: Sequence[DatasetMixin] = getattr(self, names[level])
        return [item for item in known if item.observatory.upper() == obs.upper() and _is_there(item)]

    def plot(self, axes: Any = None) -> Any:
        """Draw the light curves and events of the project, or its raw photometry if it was not reduced yet.

        Parameters
        ----------
        axes : Axes, optional
            Axes of matplotlib; None: those of a new figure.

        Returns
        -------
        Axes
        """
        from surveys.plots import draw_source

        curves = self.processed_lightcurves or self.reduced_lightcurves
        if curves or not self.raw_photometry:
            return draw_source(curves, self.detections, self.name, axes)
        for raw in self.raw_photometry:
            axes = raw.plot(axes)
        return axes

    def fit_point_lens(self, options: "Options | None" = None) -> "PointLens":
        """Fit a point lens to the light curves of the project, all bands and observatories at once.

        Parameters
        ----------
        options : Options, optional
            How it is done (`surveys.point_lens.Options`); times are Julian days.

        Returns
        -------
        PointLens
            t0 [JD], u0, tE and their errors, source and blend of each data set, warnings.

        Raises
        ------
        Unprocessable
            There is no event.
        """
        from surveys.point_lens import fit  # late: compiled code, which most scripts do not need

        curves = [*self.processed_lightcurves, *self.reduced_lightcurves]
        return fit(curves, options)

    def reset_analysis(self) -> None:
        """Remove the results of the project, so that the next run computes them again."""
        open_surveys().forget_results(self.project, [self.name])
        for kept in ("lightcurves", "processed_lightcurves", "detections", "properties"):
            self.__dict__.pop(kept, None)

    def _facts(self) -> dict[str, Any]:
        loaded = {name: len(self.__dict__[name]) for name in LAZY if name in self.__dict__}
        return {
            **{"name": self.name, "ra": f"{self.ra:.5f}°", "dec": f"{self.dec:+.5f}°"},
            **{"mag": self.mag, "mag_err": self.mag_err, "aliases": self.aliases, "project": self.project, **loaded},
        }

    _repr_html_ = card

    def __repr__(self) -> str:
        return f"Source({self.name!r}, ra={self.ra:.5f}, dec={self.dec:+.5f}, mag={self.mag})"


def _is_there(item: DatasetMixin) -> bool:
    try:
        item.load()
    except MissingDataError:
        return False
    return True


def cone_query(ra: float, dec: float, sep_deg: float) -> dict[str, Any]:
    """Return the query for sources within a cone.

    Parameters
    ----------
    ra, dec : float
        Centre [deg].
    sep_deg : float
        Radius [deg].

    Returns
    -------
    dict
    """
    from obsarchive.store import Cone  # late: it imports pymongo

    return {"geojson": Cone(ra, dec, sep_deg).sphere()}
