"""Queries of the virtual observatory that `bench_portal.py` asks, on its observations."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

STARS, PROGRAMS = 118_000, 40
PIXEL_ARCSEC, SHAPE = 0.0174, (1024, 1024)


def images(place: dict) -> list[dict]:
    """FITS products of an observation at a place, with their outlines."""
    around = ((0.0025, -0.0025), (-0.0025, -0.0025), (-0.0025, 0.0025), (0.0025, 0.0025))
    corners = [[(place["ra_deg"] + x) % 360, max(-90.0, min(90.0, place["dec_deg"] + y))] for x, y in around]
    image = {"shape": list(SHAPE), "corners_deg": corners, "pixel_arcsec": PIXEL_ARCSEC}
    names = ("20p.fits", "100p.fits")
    return [{"name": name, "bytes": 4_000_000, "sha256": "0" * 64, "image": image} for name in names]


def _tap(query: str) -> str:
    return f"/vo/tap/sync?{urlencode({'LANG': 'ADQL', 'QUERY': query})}"


def makers(rng: random.Random, first: datetime, nights: int) -> dict[str, Callable[[], str]]:
    """Addresses of queries, by what they ask for."""
    everything = "SELECT TOP 100 * FROM ivoa.obscore"

    def place() -> str:
        return f"{rng.uniform(0, 360):.4f}, {rng.uniform(-25, 80):.4f}"

    def hour() -> str:
        day = (first - datetime(1858, 11, 17, tzinfo=UTC)).days + rng.randrange(nights)
        return f"{day + 0.1:.2f} AND {day + 0.14:.2f}"

    return {
        "SIA2, cone of 0.5 deg": lambda: f"/vo/sia2?POS=CIRCLE+{place().replace(', ', '+')}+0.5&BAND=7e-7&CALIB=2",
        "SIA2, an instrument that there is not": lambda: "/vo/sia2?INSTRUMENT=NOPE",
        "TAP, cone of 1 deg": lambda: _tap(
            f"{everything} WHERE 1 = CONTAINS(POINT('ICRS', s_ra, s_dec), CIRCLE('ICRS', {place()}, 1))"
        ),
        "TAP, images over a position": lambda: _tap(
            f"{everything} WHERE 1 = CONTAINS(POINT('ICRS', {place()}), s_region)"
        ),
        "TAP, an hour": lambda: _tap(f"{everything} WHERE t_min BETWEEN {hour()}"),
        "TAP, the last of a programme": lambda: _tap(
            f"{everything} WHERE proposal_id = '{rng.randrange(1, PROGRAMS)}' ORDER BY t_min DESC"
        ),
        "TAP, a target": lambda: _tap(f"{everything} WHERE target_name = 'HIP_{rng.randrange(STARS)}'"),
        "TAP, the first rows": lambda: _tap(everything),
        "TAP, the newest": lambda: _tap(f"{everything} ORDER BY t_min DESC"),
    }


KINDS = tuple(f"VO: {what}" for what in makers(random.Random(0), datetime(2012, 6, 1, tzinfo=UTC), 1))
