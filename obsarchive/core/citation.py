"""How to cite an observation: as text, for BibTeX, for DataCite (schema 4.5) and as schema.org describes data sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast
from urllib.parse import quote

from obsarchive.core.bibtex import entry
from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.core.documents import Observation
from obsarchive.core.release import Programme, Release


@dataclass(frozen=True)
class Licence:
    """A licence by name, and where its text is."""

    name: str = ""
    url: str = ""


@dataclass(frozen=True)
class DataFile:
    """A FITS file of a data set: its address, size [bytes] and SHA-256."""

    url: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Publisher:
    """The archive as it publishes data: its name and address, and the terms of programmes that set none."""

    name: str
    address: str
    licence: Licence = Licence()
    acknowledgement: str = ""

    def cite(self, observation: Observation, programme: Programme, release: Release) -> "Citation":
        """Return the citation of an observation.

        Parameters
        ----------
        observation : Observation
            The observation.
        programme : Programme
            Its programme.
        release : Release
            The rule by which observations become public.

        Returns
        -------
        Citation
        """
        document = observation.document
        position = (observation.number(RA_DEG), observation.number(DEC_DEG))
        optics = (document.get("telescope"), observation.camera, observation.filter)
        return Citation(
            archive=self.name,
            programme=programme,
            observation=observation.id,
            target=str(document.get("name") or observation.id),
            observed=observation.date_utc,
            url=f"{self.address}/public/observation/{quote(observation.id)}",
            licence=Licence(programme.licence) if programme.licence else self.licence,
            acknowledgement=programme.acknowledgement or self.acknowledgement,
            released=release.day(programme.id, observation.date_utc),
            position_deg=None if None in position else cast(tuple[float, float], position),
            instrument=", ".join(str(part) for part in optics if part),
        )


@dataclass(frozen=True)
class Citation:
    """What a publication needs to cite an observation.

    Parameters
    ----------
    archive : str
        Name of the archive, which publishes the data.
    programme : Programme
        Programme of the observation.
    observation, target : str
        Names of the observation and of its target.
    observed : datetime
        Its start.
    url : str
        Address of its public page.
    licence : Licence
        Licence of the data.
    acknowledgement : str
        What publications should say.
    released : date, optional
        When it became public, or will.
    position_deg : (float, float), optional
        Right ascension and declination.
    instrument : str
        Telescope, camera and filter.
    """

    archive: str
    programme: Programme
    observation: str
    target: str
    observed: datetime
    url: str
    licence: Licence = Licence()
    acknowledgement: str = ""
    released: date | None = None
    position_deg: tuple[float, float] | None = None
    instrument: str = ""

    @property
    def creator(self) -> str:
        """Who observed: the principal investigator, else the programme."""
        return self.programme.pi or f"Programme {self.programme.id}"

    @property
    def identifier(self) -> str:
        """Address that stays: the DOI of the programme's data, else the public page."""
        return self.programme.doi_url or self.url

    @property
    def title(self) -> str:
        """Title of the data set."""
        return f"{self.target}, observed {self.observed:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def year(self) -> int:
        """Year of publication: of the release, else of the observation."""
        return (self.released or self.observed).year

    def sentence(self) -> str:
        """Return the citation in one sentence."""
        named = f"programme {self.programme.id}"
        named += f", “{self.programme.title}”" if self.programme.title else ""
        about = f"{self.creator} ({self.year}): {self.title} ({named}), observation {self.observation}"
        return f"{about} [Data set]. {self.archive}. {self.identifier}"

    def text(self) -> str:
        """Return the file that lies beside the products."""
        parts = ["How to cite these data", "", self.sentence()]
        if self.acknowledgement:
            parts += ["", "Please acknowledge:", self.acknowledgement]
        if self.licence.name:
            parts += ["", f"Licence of public data: {self.licence.name} {self.licence.url}".rstrip()]
        if self.released:
            parts += ["", f"Public from {self.released:%Y-%m-%d}, 00:00 UTC: {self.url}"]
        else:
            parts += ["", "These data are not public."]
        return "\n".join([*parts, ""])

    def bibtex(self) -> str:
        """Return the citation as an entry of BibTeX."""
        title = f", {self.programme.title}" if self.programme.title else ""
        fields = {
            "author": self.creator,
            "title": self.title,
            "year": str(self.year),
            "publisher": self.archive,
            "howpublished": "Data set",
            "note": f"Programme {self.programme.id}{title}; observation {self.observation}",
            "doi": self.programme.doi,
            "url": self.url,
        }
        return entry("misc", self.observation, fields)

    def datacite(self, n_bytes: int = 0, place_deg: tuple[float, float] | None = None) -> dict[str, Any]:
        """Return metadata as DataCite takes them at the registration of a DOI for the observation.

        Parameters
        ----------
        n_bytes : int, optional
            Size of all products.
        place_deg : (float, float), optional
            Latitude and longitude of the telescope; DataCite has no place for positions on the sky.

        Returns
        -------
        dict
        """
        dates = [{"date": self.observed.isoformat(), "dateType": "Collected"}]
        dates += [{"date": self.released.isoformat(), "dateType": "Available"}] if self.released else []
        found: dict[str, Any] = {
            "schemaVersion": "http://datacite.org/schema/kernel-4",
            "url": self.url,
            "creators": [{"name": self.creator, "nameType": "Personal" if self.programme.pi else "Organizational"}],
            "titles": [{"title": self.title}],
            "publisher": {"name": self.archive},
            "publicationYear": self.year,
            "types": {"resourceTypeGeneral": "Dataset", "resourceType": "Astronomical observation"},
            "subjects": [{"subject": self.target}, {"subject": "Astronomy"}],
            "dates": dates,
            "alternateIdentifiers": [
                {"alternateIdentifier": self.observation, "alternateIdentifierType": "observation"}
            ],
            "formats": ["application/fits"],
            "descriptions": [{"description": self._description(), "descriptionType": "Abstract"}],
        }
        if self.programme.doi:
            whole = {"relatedIdentifier": self.programme.doi, "relatedIdentifierType": "DOI"}
            found["relatedIdentifiers"] = [{**whole, "relationType": "IsPartOf", "resourceTypeGeneral": "Dataset"}]
        if n_bytes:
            found["sizes"] = [f"{n_bytes} bytes"]
        if place_deg:
            point = dict(zip(("pointLatitude", "pointLongitude"), place_deg, strict=True))
            found["geoLocations"] = [{"geoLocationPoint": point}]
        if self.licence.name:
            found["rightsList"] = [{"rights": self.licence.name, "rightsUri": self.licence.url or None}]
        return found

    def _description(self) -> str:
        """Say in a sentence what was observed."""
        where = ""
        if self.position_deg:
            where = " at RA {:.5f}°, Dec {:+.5f}° (ICRS)".format(*self.position_deg)
        which = f" with {self.instrument}" if self.instrument else ""
        return f"Observation of {self.target}{where}{which}, programme {self.programme.id}: raw frames and products."

    def _whole(self) -> dict[str, Any]:
        """Describe the data of the programme, which have the DOI, as schema.org does."""
        name = self.programme.title or f"Programme {self.programme.id}"
        return {"@type": "Dataset", "@id": self.identifier, "identifier": self.identifier, "name": name}

    def schema_org(self, download: str = "", files: Sequence[DataFile] = ()) -> dict[str, Any]:
        """Return the data set as search engines for data read it (JSON-LD).

        Parameters
        ----------
        download : str, optional
            Address of all products.
        files : sequence of DataFile, optional
            Products that can be had one by one.

        Returns
        -------
        dict
        """
        found: dict[str, Any] = {
            "@context": "https://schema.org",
            "@type": "Dataset",
            "@id": self.url,
            "identifier": self.observation,
            "name": self.title,
            "description": self._description(),
            "url": self.url,
            "creator": {"@type": "Person" if self.programme.pi else "Organization", "name": self.creator},
            "publisher": {"@type": "Organization", "name": self.archive},
            "temporalCoverage": self.observed.isoformat(),
            "keywords": ["astronomy", self.target],
            "isAccessibleForFree": True,
            "includedInDataCatalog": {"@type": "DataCatalog", "name": self.archive},
        }
        found |= {"isPartOf": self._whole()} if self.programme.doi else {}
        found |= {"datePublished": self.released.isoformat()} if self.released else {}
        found |= {"license": self.licence.url or self.licence.name} if self.licence.name else {}
        found |= {"creditText": self.acknowledgement} if self.acknowledgement else {}
        if download:
            kind = {"@type": "DataDownload", "encodingFormat": "application/x-tar", "contentUrl": download}
            found["distribution"] = [kind, *map(_distribution, files)]
        return found


def _distribution(file: DataFile) -> dict[str, Any]:
    kind = {"@type": "DataDownload", "encodingFormat": "application/fits", "contentUrl": file.url}
    return {**kind, "contentSize": f"{file.bytes} B", "sha256": file.sha256}
