"""How long the portal takes with a hundred thousand observations in the database.

``python benchmarks/bench_portal.py`` fills a database of its own (some minutes), asks for pages and searches again and
again, and writes the 95th percentiles of the server's time to ``benchmarks/PORTAL.md``.
"""

import gc
import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from argon2 import PasswordHasher

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from obsarchive.accounts import users as accounts  # noqa: E402
from obsarchive.config.model import load  # noqa: E402
from obsarchive.database.embedded_mongod import EmbeddedMongod  # noqa: E402
from obsarchive.instruments.base import coordinates  # noqa: E402
from obsarchive.pipeline.chain import decision_chain, steps_of  # noqa: E402
from obsarchive.store import Store  # noqa: E402
from obsarchive.web import create_app  # noqa: E402

RESULTS = Path(__file__).with_name("PORTAL.md")
OBSERVATIONS, NIGHT_SIZE, PROGRAMS = 100_000, 200, 40
FIRST = datetime(2012, 6, 1, tzinfo=UTC)
REPEATS = 30
PASSWORD = "perihelion of 1801"
GOALS = {"night": 150.0, "search": 200.0}


def record(rng: random.Random, number: int, results: dict) -> dict:
    products = [
        {"name": f"product_{i}.png", "bytes": 12345, "sha256": f"{rng.getrandbits(256):064x}"} for i in range(4)
    ]
    when = FIRST + timedelta(days=number // NIGHT_SIZE)
    inputs = {"science": f"{rng.getrandbits(64):016x}", "calibration": f"{rng.getrandbits(64):016x}"}
    return {"state": "done", "finished": when, "products": products, "results": results, "inputs": inputs, "retries": 0}


def observation(rng: random.Random, number: int) -> dict:
    """A document as the daemon leaves it, header and curve of contrast included."""
    night = FIRST + timedelta(days=number // NIGHT_SIZE)
    when = night + timedelta(hours=2, seconds=150 * (number % NIGHT_SIZE))
    program, target, band = (
        str(1 + number % PROGRAMS),
        f"HIP_{rng.randrange(118_000)}",
        rng.choice(["Si", "lp600", "Sz"]),
    )
    name = f"{program}_{target}_VIC_{band}_o_{when:%Y%m%d_%H%M%S.%f}"
    strehl, flag = round(rng.uniform(2, 40), 2), "OK" if rng.random() < 0.9 else "BAD?"
    place = coordinates(
        rng.uniform(0, 360), float(np.degrees(np.arcsin(rng.uniform(-0.5, 1)))), {"AZIMUTH": 100.0, "ELVATION": 60.0}
    )
    curve = [[round(0.05 * i, 2), round(2 + 0.2 * i, 2), 0.7] for i in range(35)]
    thumb = {"name": f"preview/{name}_thumb.png", "bytes": 9999, "sha256": f"{rng.getrandbits(256):064x}"}
    preview = record(rng, number, {})
    preview["products"] += [thumb, {**thumb, "name": f"preview/{name}_cropped.png"}]
    steps = {
        "reduce": record(rng, number, {"frames_total": 770, "frames_used": 768, "calibration": "dark_6"}),
        "strehl": record(rng, number, {"ratio_percent": strehl, "fwhm_arcsec": 0.12, "flag": flag}),
        "preview": preview,
        "pca": record(rng, number, {"curve": curve, "components": 7}),
    }
    return {
        "_id": name,
        "night": f"{night:%Y%m%d}",
        "name": target,
        "science_program": {"program_id": program, "program_PI": [f"pi{program}"]},
        "date_utc": when,
        "telescope": "KPNO_2.1m",
        "camera": "VIC",
        "filter": band,
        "exposure_s": 90.0,
        "magnitude": round(rng.uniform(4, 16), 2),
        "coordinates": place,
        "seeing": {"median_arcsec": round(rng.uniform(0.8, 2), 2), "nearest_arcsec": round(rng.uniform(0.8, 2), 2)},
        "fits_header": [{"key": f"KEY{i}", "value": i, "comment": "comment of a card"} for i in range(60)],
        "raw_data": {"location": ["host", "/raw"], "data": [f"{name}.fits.bz2"], "signature": "x" * 16},
        "pipelined": {"bright_star": {"classified_as": "high_flux", "steps": steps}},
        "distributed": {"status": True},
    }


def fill(store: Store) -> None:
    rng = random.Random(1)
    for start in range(0, OBSERVATIONS, 2000):
        many = [observation(rng, number) for number in range(start, start + 2000)]
        store.database["objects"].insert_many(many, ordered=False)
    for number in range(OBSERVATIONS // NIGHT_SIZE):
        night = f"{FIRST + timedelta(days=number):%Y%m%d}"
        frames = [
            {"date_utc": f"{night[:4]}-{night[4:6]}-{night[6:]}T03:{i:02d}:00", "fwhm_arcsec": 1.2} for i in range(40)
        ]
        store.database["aux"].insert_one(
            {"_id": night, "seeing": {"steps": {"measure": {"results": {"frames": frames}}}}}
        )


def addresses(kind: str, rng: random.Random) -> list[str]:
    if kind == "night":
        days = (FIRST + timedelta(days=rng.randrange(OBSERVATIONS // NIGHT_SIZE)) for _ in range(REPEATS))
        return [f"/night/{day:%Y%m%d}" for day in days]
    makers = {
        "everything": lambda: "/search?date_from=2012-01-01",
        "part of a name": lambda: f"/search?name=IP_{rng.randrange(10_000, 118_000)}",
        "part of a frequent name": lambda: f"/search?name=HIP_{rng.randrange(1, 10)}",
        "a name that there is not": lambda: f"/search?name=nothing{rng.randrange(1000)}",
        "exact name": lambda: f"/search?name=HIP_{rng.randrange(118_000)}&match=exact",
        "cone of 1 deg": lambda: (
            f"/search?ra={rng.uniform(0, 360):.4f}&dec={rng.uniform(-25, 80):.4f}&radius=1&unit=deg"
        ),
        "cone of 30 arcsec": lambda: f"/search?ra={rng.uniform(0, 360):.4f}&dec={rng.uniform(-25, 80):.4f}",
        "programme and filter": lambda: f"/search?program={rng.randrange(1, PROGRAMS)}&filter=Si",
        "range of Strehl ratios": lambda: f"/search?strehl_bright_star_min={rng.uniform(35, 39):.1f}",
        "range, sorted by it": lambda: (
            f"/search?strehl_bright_star_min={rng.uniform(20, 39):.1f}&sort=-strehl_bright_star"
        ),
        "failed": lambda: "/search?state=failed",
        "sorted by magnitude": lambda: "/search?date_from=2012-01-01&sort=magnitude",
    }
    return [makers[kind.removeprefix("search: ")]() for _ in range(REPEATS)]


KINDS = (
    "night",
    *(
        f"search: {what}"
        for what in (
            "everything",
            "part of a name",
            "part of a frequent name",
            "a name that there is not",
            "exact name",
            "cone of 1 deg",
            "cone of 30 arcsec",
            "programme and filter",
            "range of Strehl ratios",
            "range, sorted by it",
            "failed",
            "sorted by magnitude",
        )
    ),
)


def timed(client, kind: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Times of the server [ms], after one round that warms the caches."""
    times = []
    for address in addresses(kind, random.Random(2)):
        start = time.perf_counter()
        answer = client.get(address)
        answer.get_data()
        times.append(1e3 * (time.perf_counter() - start))
        assert answer.status_code == 200, address
    return np.array(times[3:])


def main() -> None:
    accounts._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with tempfile.TemporaryDirectory() as folder, EmbeddedMongod(Path(folder) / "db") as server:
        config = load(PROJECT / "config.json")
        store = Store(server.uri, "archiver")
        chain = decision_chain(config)
        store.ensure_indexes(steps_of(chain))
        fill(store)
        time.sleep(65)  # longer than a checkpoint of the database: what is written must not disturb what is read
        lines = [
            "# The portal with 100 000 observations\n",
            "| page | who | median [ms] | 95 % [ms] | goal [ms] | |",
            "|---|---|---|---|---|---|",
        ]
        app = create_app(config, store)
        app.logger.disabled = True
        gc.collect()
        gc.freeze()  # as server_data_archive.py does
        for who, programs in (("administrator", "all"), ("PI of two programmes", ["3", "7"])):
            name = who.split()[0]
            accounts.add_user(store.users, name, programs)
            accounts.set_password(store.users, name, PASSWORD)
            client = app.test_client()
            token = client.get("/login").text.split('name="csrf_token" value="')[1].split('"')[0]
            assert (
                client.post("/login", data={"csrf_token": token, "username": name, "password": PASSWORD}).status_code
                == 302
            )
            for kind in KINDS:
                times = timed(client, kind)
                goal = GOALS[kind.split(":")[0]]
                slow = np.percentile(times, 95)
                reached = "reached" if slow < goal else "MISSED"
                line = f"| {kind} | {who} | {np.median(times):.0f} | {slow:.0f} | {goal:.0f} | {reached} |"
                lines.append(line)
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
        RESULTS.write_text("\n".join(lines) + "\n")
        store.close()


if __name__ == "__main__":
    main()
