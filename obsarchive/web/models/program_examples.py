"""How a program gets what a page of the portal shows: commands and scripts that can be copied."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.names import is_night
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.models.cards import find_card

LOGIN = """import os
import requests

session = requests.Session()
session.headers["Authorization"] = "Bearer " + os.environ["ARCHIVER_TOKEN"]


def get(address):
    answer = session.get(address, timeout=60)
    answer.raise_for_status()
    return answer

"""
PRODUCTS_BY_ASTROPY = """from io import BytesIO
from astropy.io import fits

for product in get("{address}").json()["products"]:
    print(product["pipeline"], product["name"], product["bytes"])
    if product["name"].endswith(".fits"):
        image = fits.open(BytesIO(get(product["url"]).content))
        print(image[0].header["PIXSCALE"] if "PIXSCALE" in image[0].header else "")
"""
ROWS_BY_ASTROPY = """from astropy.table import Table

rows, address = [], "{address}"
while address:
    page = get(address).json()
    rows, address = rows + page["observations"], page.get("next")
names = ["id", "date", "filter"]
table = Table(rows=[[row[name] for name in names] for row in rows] or None, names=names)
print(table)
"""
CURVE_BY_ASTROPY = """from astropy.io import ascii

table = ascii.read(get("{address}").text, format="csv")
print(table)
"""
JSON = """answer = get("{address}").json()
print(answer.keys())
"""
COMPARED_BY_ASTROPY = """import numpy as np
from astropy.io import ascii

for address in {addresses}:
    table = ascii.read(get(address).text, format="csv")
    for group in table.group_by("filter").groups:
        mag = np.array(np.ma.filled(group["mag"].astype(float), np.nan))
        print(address, group["filter"][0], np.isfinite(mag).sum(), np.nanmedian(mag), np.nanstd(mag))
"""
IMAGES_BY_PYVO = """import pyvo

service = pyvo.dal.SIA2Service("{address}", session=session)
images = service.search(pos=({ra}, {dec}, {radius_deg}))
print(len(images))
"""
COUNTERPARTS = {
    "library.psflib": "psflib",
    "jobs.jobs": "list_jobs",
    "search.search": "observations",
    "tonight.tonight": "nights",
    "sources.sources": "sources",
    "triage.events": "events",
    "nights.calendar": "nights",
    "datasets.datasets": "list_datasets",
    "datasets.lightcurves": "list_datasets",
    "star_comparison.compare": "list_datasets",
    "source_comparison.compare": "sources",
}
"""Pages, and the addresses for programs that answer with the same."""


@dataclass(frozen=True)
class Example:
    """Something to copy."""

    title: str
    text: str
    scopes: str = "read"
    """What the token must allow."""


def examples(of: str) -> tuple[str, list[Example]]:
    """Return how a program gets what a page shows.

    Parameters
    ----------
    of : str
        Address of the page, without the host.

    Returns
    -------
    tuple of str and list of Example
        What the examples are about, and the examples. Of a page with no counterpart: those of the entrance.
    """
    endpoint, values, query = _understood(of)
    if endpoint in WITH_PARAMETERS and query:
        return WITH_PARAMETERS[endpoint](query)
    if endpoint.startswith("sources.") and "name" in values:
        return _of_source(values["name"], query)
    for blueprint, (value, found) in BY_VALUE.items():
        if endpoint.startswith(blueprint) and value in values:
            return found(values[value])
    return _of_night(values["night"]) if "night" in values else _of_page(endpoint)


def _understood(of: str) -> tuple[str, dict[str, str], str]:
    """Endpoint, values and query of a page; of anything else an endpoint without a name."""
    adapter = portal().url_map.bind_to_environ(request.environ)
    try:
        parts = urlsplit(of)
        endpoint, values = adapter.match(parts.path.removeprefix(request.script_root), method="GET")
    except (ValueError, HTTPException, RequestRedirect):
        return "", {}, ""
    return endpoint, dict(values), parts.query


def _curl(address: str) -> str:
    return f'curl -H "Authorization: Bearer $ARCHIVER_TOKEN" "{address}"'


def _of_page(endpoint: str, query: str = "") -> tuple[str, list[Example]]:
    view = COUNTERPARTS.get(endpoint, "index")
    address = _with_parameters(view, query)
    found = [Example("curl", _curl(address)), Example("Python, requests", LOGIN + JSON.format(address=address))]
    return ("what there is" if view == "index" else "this page"), found


def _with_parameters(view: str, query: str) -> str:
    """Return an address of the interface for programs that finds what a search found.

    Empty fields of its form and what is for the page only mean nothing to a program.
    """
    asked = {name: values for name, values in parse_qs(query).items() if name not in ("view", "columns", "cursor")}
    return full_address(f"api.{view}") + (f"?{urlencode(asked, doseq=True)}" if asked else "")


def _of_observation(obs_id: str) -> tuple[str, list[Example]]:
    observation = find_card(obs_id).observation
    address = full_address("api.observation", obs_id=obs_id)
    products = full_address("api.products", obs_id=obs_id)
    tar = full_address("downloads.observation", obs_id=obs_id, form="tar")
    found = [
        Example("curl: facts and measurements", _curl(address)),
        Example("curl: everything", _curl(tar) + f" -o {obs_id}.tar", "download"),
        Example(
            "Python, requests and astropy: its images",
            LOGIN + PRODUCTS_BY_ASTROPY.format(address=products),
            "read, download",
        ),
    ]
    ra, dec = observation.number(RA_DEG), observation.number(DEC_DEG)
    if ra is not None and dec is not None:
        found.append(_by_pyvo(ra, dec))
    return f"the observation {obs_id}", found


def _by_pyvo(ra_deg: float, dec_deg: float) -> Example:
    address = full_address("vo.images").removesuffix("/query")
    text = LOGIN + IMAGES_BY_PYVO.format(address=address, ra=round(ra_deg, 5), dec=round(dec_deg, 5), radius_deg=0.01)
    return Example("Python, pyvo: all images of this place", text)


def _of_search(query: str) -> tuple[str, list[Example]]:
    address = _with_parameters("observations", query)
    return "this search", [
        Example("curl", _curl(address)),
        Example("Python, requests and astropy", LOGIN + ROWS_BY_ASTROPY.format(address=address)),
    ]


def _of_night(night: str) -> tuple[str, list[Example]]:
    address = full_address("api.night", night=night)
    return f"the night {night}", [
        Example("curl: its observations", _curl(address)),
        Example("curl: what its plots show", _curl(full_address("api.summary", night=night))),
        Example("Python, requests and astropy", LOGIN + ROWS_BY_ASTROPY.format(address=address)),
    ]


def _of_light_curve(query: str) -> tuple[str, list[Example]]:
    address = f"{full_address('datasets.export', form='csv')}?{query}"
    return "these light curves", [
        Example("curl", _curl(address)),
        Example("Python, requests and astropy", LOGIN + CURVE_BY_ASTROPY.format(address=address)),
    ]


def _of_two_stars(query: str) -> tuple[str, list[Example]]:
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    stars = asked.get("star", "0"), asked.get("other", "1")
    export = full_address("datasets.export", form="csv")
    target = {"target": asked["target"]} if "target" in asked else {}
    return "two stars", _compared([f"{export}?{urlencode({**target, 'star': star})}" for star in stars])


def _of_two_sources(query: str) -> tuple[str, list[Example]]:
    asked = {name: values[-1].strip() for name, values in parse_qs(query).items()}
    project = {"project": asked["project"]} if "project" in asked else {}
    names = [asked[which] for which in ("first", "second") if asked.get(which)]
    return "two sources", _compared(
        [full_address("sources.export", name=name, form="csv", **project) for name in names]
    )


def _compared(addresses: list[str]) -> list[Example]:
    script = LOGIN + COMPARED_BY_ASTROPY.format(addresses=addresses)
    curls = [Example(f"curl: light curve {number}", _curl(one)) for number, one in enumerate(addresses, 1)]
    return [*curls, Example("Python, requests and astropy: both, by filter", script)]


def _of_tonight(query: str) -> tuple[str, list[Example]]:
    night = parse_qs(query).get("night", [""])[-1].replace("-", "")
    return _of_night(night) if is_night(night) else _of_page("nights.calendar")


def _of_programme(program: str) -> tuple[str, list[Example]]:
    return f"the programme {program}", _of_search(urlencode({"program": program}))[1]


def _of_dataset(key: str) -> tuple[str, list[Example]]:
    curve = full_address("api.lightcurve", key=key)
    return "this dataset", [
        Example("curl: its state", _curl(full_address("api.dataset", key=key))),
        Example("curl: light curve of the target", _curl(curve)),
        Example("Python, requests", LOGIN + JSON.format(address=curve)),
    ]


def _of_target(name: str) -> tuple[str, list[Example]]:
    address = full_address("api.target", name=name)
    script = LOGIN + JSON.format(address=address)
    return f"the target {name}", [Example("curl: its epochs", _curl(address)), Example("Python, requests", script)]


def _of_source(name: str, query: str) -> tuple[str, list[Example]]:
    project = {"project": parse_qs(query)["project"][-1]} if "project" in parse_qs(query) else {}
    curves = full_address("api.source_lightcurves", name=name, **project)
    return f"the source {name}", [
        Example("curl: what was found", _curl(full_address("api.source", name=name, **project))),
        Example("curl: points of its light curves", _curl(curves)),
        Example("Python, requests", LOGIN + JSON.format(address=curves)),
    ]


BY_VALUE: dict[str, tuple[str, Callable[[str], tuple[str, list[Example]]]]] = {
    "observations.": ("obs_id", _of_observation),
    "targets.": ("name", _of_target),
    "datasets.": ("key", _of_dataset),
    "programmes.": ("program", _of_programme),
}
"""How the endpoint begins, which of its values says what is shown, and who writes the examples."""
WITH_PARAMETERS: dict[str, Callable[[str], tuple[str, list[Example]]]] = {
    "search.search": _of_search,
    "sources.sources": partial(_of_page, "sources.sources"),
    "triage.events": partial(_of_page, "triage.events"),
    "datasets.lightcurves": _of_light_curve,
    "star_comparison.compare": _of_two_stars,
    "source_comparison.compare": _of_two_sources,
    "tonight.tonight": _of_tonight,
}
"""Pages whose parameters say what is shown, and who writes the examples."""
