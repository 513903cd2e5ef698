"""The virtual observatory: Simple Cone Search 1.03 and Simple Image Access 2.0, for programs with a token."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.store.search import Cone, Criteria, Order
from obsarchive.web.framework.authorization import for_tokens
from obsarchive.web.framework.context import full_address, portal
from obsarchive.web.models import votables
from obsarchive.web.models.columns import columns
from obsarchive.web.models.view_models import Card
from obsarchive.web.pages.search import cards

MOST_ROWS = 5000
MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)

bp = Blueprint("vo", __name__, url_prefix="/vo")


class BadQuery(ValueError):
    """A parameter that the protocol does not allow; the message is for whoever asked."""


@bp.get("/scs")
@for_tokens("read")
def scs() -> ResponseReturnValue:
    """Simple Cone Search: observations around a place."""
    try:
        ra, dec, radius = (_number(name) for name in ("RA", "DEC", "SR"))
        cone = _cone(ra, dec, radius)
    except BadQuery as err:
        return _answer(votables.error(str(err)), 400)
    found = _find(Criteria(cone=cone))
    known = [column for column in columns(portal().chain) if column.shown or column.key == "id"]
    return _answer(votables.of_rows(found[:MOST_ROWS], known))


@bp.get("/sia2")
@bp.get("/sia2/query")
@for_tokens("read")
def sia2() -> ResponseReturnValue:
    """Simple Image Access 2: FITS images as ObsCore rows."""
    try:
        most = int(_number("MAXREC", MOST_ROWS))
        criteria = Criteria(cone=_circle(), **_band_and_time())
    except BadQuery as err:
        return _answer(votables.error(str(err)), 400)
    images = [_obscore(card, image) for card in _find(criteria) for image in _images(card)]
    wanted = {text.lower() for text in _all("FORMAT")}
    if wanted and not wanted & {"image/fits", "application/fits", "all", "fits"}:
        images = []
    most = min(max(most, 0), MOST_ROWS)
    return _answer(_obscore_table(images[:most], overflow=len(images) > most))


@bp.get("/sia2/capabilities")
@for_tokens("read")
def capabilities() -> ResponseReturnValue:
    """VOSI: where the service answers."""
    return Response(render_template("capabilities.xml", full_address=full_address), mimetype="text/xml")


@bp.get("/sia2/availability")
@for_tokens("read")
def availability() -> ResponseReturnValue:
    """VOSI: that the service is there."""
    return Response(render_template("availability.xml"), mimetype="text/xml")


def _answer(table: bytes, status: int = 200) -> Response:
    return Response(table, status, mimetype=votables.MIME)


def _all(name: str) -> list[str]:
    """Return the values of a parameter, whose name may be written in any case."""
    return [value for key, value in request.args.items(multi=True) if key.upper() == name and value.strip()]


def _number(name: str, default: float | None = None) -> float:
    values = _all(name)
    if not values and default is not None:
        return default
    try:
        found = float(values[0])
    except (IndexError, ValueError) as err:
        raise BadQuery(f"{name}: a number is needed") from err
    if not math.isfinite(found):
        raise BadQuery(f"{name}: a number is needed")
    return found


def _cone(ra: float, dec: float, radius: float) -> Cone:
    if not (-360 <= ra <= 360 and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise BadQuery("RA must lie within 0 and 360, DEC within -90 and 90, the radius within 0 and 180 degrees")
    return Cone(ra % 360, dec, radius)


def _circle() -> Cone | None:
    """Read ``POS=CIRCLE ra dec radius``; ranges and polygons are not understood and said to be so."""
    values = _all("POS")
    if not values:
        return None
    words = values[0].split()
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError as err:
        raise BadQuery(f"POS: {values[0]!r} is no CIRCLE ra dec radius") from err
    if len(values) > 1 or words[0].upper() != "CIRCLE" or len(numbers) != 3:
        raise BadQuery("POS: one CIRCLE ra dec radius is understood, no RANGE and no POLYGON")
    return _cone(*numbers)


def _band_and_time() -> dict[str, Any]:
    """Read BAND [m] and TIME [MJD]: numbers or intervals."""
    found: dict[str, Any] = {}
    if bands := _all("BAND"):
        low, high = _interval("BAND", bands[0])
        found["filters"] = [name for name, band in _bands().items() if low <= band[1] and band[0] <= high] or ["-"]
    if times := _all("TIME"):
        low, high = _interval("TIME", times[0])
        found["since"], found["until"] = _date(low), _date(high)
    return found


def _interval(name: str, text: str) -> tuple[float, float]:
    try:
        bounds = [float(word) for word in text.split()]
    except ValueError:
        bounds = []
    if len(bounds) not in (1, 2) or any(math.isnan(bound) for bound in bounds):
        raise BadQuery(f"{name}: a number or two of them are needed, not {text[:30]!r}")
    return bounds[0], bounds[-1]


def _date(mjd: float) -> datetime | None:
    return MJD_EPOCH + timedelta(days=mjd) if 0 <= mjd <= 200_000 else None


def _bands() -> dict[str, tuple[float, float]]:
    """Passbands of the filters [m]."""
    filters = {k: v for telescope in portal().settings.telescope.values() for k, v in telescope.filters.items()}
    return {
        name: ((band.wavelength_nm - band.width_nm / 2) * 1e-9, (band.wavelength_nm + band.width_nm / 2) * 1e-9)
        for name, band in filters.items()
    }


def _find(criteria: Criteria) -> list[Card]:
    order = Order("date_utc", descending=True)
    return list(cards(portal().store.browse.stream(current_user.document, criteria, order, MOST_ROWS + 1)))


def _images(card: Card) -> list[tuple[str, dict[str, Any]]]:
    """FITS products of an observation: the pipeline and the record of each."""
    return [
        (view.name, dict(product))
        for view in card.pipelines
        for product in view.products.values()
        if str(product["name"]).endswith(".fits")
    ]


OBSCORE: dict[str, dict[str, str]] = {
    "dataproduct_type": {"datatype": "char", "ucd": "meta.code.class"},
    "calib_level": {"datatype": "int", "ucd": "meta.code;obs.calib"},
    "obs_collection": {"datatype": "char", "ucd": "meta.id"},
    "obs_id": {"datatype": "char", "ucd": "meta.id"},
    "obs_publisher_did": {"datatype": "char", "ucd": "meta.ref.ivoid"},
    "obs_title": {"datatype": "char", "ucd": "meta.title;obs"},
    "access_url": {"datatype": "char", "ucd": "meta.ref.url"},
    "access_format": {"datatype": "char", "ucd": "meta.code.mime"},
    "access_estsize": {"datatype": "long", "unit": "kbyte", "ucd": "phys.size;meta.file"},
    "target_name": {"datatype": "char", "ucd": "meta.id;src"},
    "s_ra": {"datatype": "double", "unit": "deg", "ucd": "pos.eq.ra"},
    "s_dec": {"datatype": "double", "unit": "deg", "ucd": "pos.eq.dec"},
    "s_fov": {"datatype": "double", "unit": "deg", "ucd": "phys.angSize;instr.fov"},
    "s_resolution": {"datatype": "double", "unit": "arcsec", "ucd": "pos.angResolution"},
    "t_min": {"datatype": "double", "unit": "d", "ucd": "time.start;obs.exposure"},
    "t_max": {"datatype": "double", "unit": "d", "ucd": "time.end;obs.exposure"},
    "t_exptime": {"datatype": "double", "unit": "s", "ucd": "time.duration;obs.exposure"},
    "em_min": {"datatype": "double", "unit": "m", "ucd": "em.wl;stat.min"},
    "em_max": {"datatype": "double", "unit": "m", "ucd": "em.wl;stat.max"},
    "facility_name": {"datatype": "char", "ucd": "meta.id;instr.tel"},
    "instrument_name": {"datatype": "char", "ucd": "meta.id;instr"},
}
"""Columns of ObsCore 1.1 that an archive like this one can fill."""


def _obscore(card: Card, image: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    pipeline, product = image
    seen = card.observation
    start = (seen.date_utc - MJD_EPOCH) / timedelta(days=1)
    exposure = seen.number("exposure_s")
    telescope = portal().settings.telescope.get(str(seen.document.get("telescope")))
    low, high = _bands().get(seen.filter, (None, None))
    place = f"{card.id}/{pipeline}/{product['name']}"
    size = product.get("bytes")
    return {
        "dataproduct_type": "image",
        "calib_level": 2 if str(product["name"]).endswith(("p.fits", "sum.fits", "stack.fits")) else 3,
        "obs_collection": portal().settings.server.name,
        "obs_id": card.id,
        "obs_publisher_did": f"ivo://archiver/{portal().settings.database.db}?{place}",
        "obs_title": f"{card.name}, {pipeline.replace('_', ' ')}, {product['name']}",
        "access_url": full_address("observations.product", obs_id=card.id, pipeline=pipeline, name=product["name"]),
        "access_format": "image/fits",
        "access_estsize": max(1, size // 1000) if isinstance(size, int) else 0,
        "target_name": card.name,
        "s_ra": seen.number("coordinates.ra_deg"),
        "s_dec": seen.number("coordinates.dec_deg"),
        "s_fov": telescope.plate_scale_arcsec * max(telescope.detector_px) / 3600 if telescope else None,
        "s_resolution": seen.number("seeing.nearest_arcsec"),
        "t_min": start,
        "t_max": start + (exposure or 0.0) / 86400,
        "t_exptime": exposure,
        "em_min": low,
        "em_max": high,
        "facility_name": str(seen.document.get("telescope") or ""),
        "instrument_name": seen.camera,
    }


def _obscore_table(rows: list[dict[str, Any]], overflow: bool) -> bytes:
    return votables.table(
        [
            (
                {"name": name, "ID": name, "utype": f"obscore:{name}", **about, **_size(about)},
                [row[name] for row in rows],
            )
            for name, about in OBSCORE.items()
        ],
        overflow,
    )


def _size(about: dict[str, str]) -> dict[str, str]:
    return {"arraysize": "*"} if about["datatype"] == "char" else {}
