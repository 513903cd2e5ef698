"""How long the portal takes with very many observations in the database.

``python benchmarks/bench_portal.py`` fills a database of its own (some minutes for a hundred thousand observations),
asks for pages and searches again and again, and writes the 95th percentiles of the server's time to
``benchmarks/PORTAL.md``.
With ``--observations 100000 1000000`` it does so for both numbers, one after the other in one database, and compares
them. With ``--folder`` the database stays there (10 GB for a million), and a later run measures it without filling it.
"""

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import vo_queries
from argon2 import PasswordHasher

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from obsarchive.accounts import users as accounts  # noqa: E402
from obsarchive.cli.portal import GARBAGE  # noqa: E402
from obsarchive.config.loading import load  # noqa: E402
from obsarchive.core.target_names import target_fields  # noqa: E402
from obsarchive.database.embedded_mongod import EmbeddedMongod  # noqa: E402
from obsarchive.instruments.base import coordinates  # noqa: E402
from obsarchive.pipeline.chain import decision_chain, steps_of  # noqa: E402
from obsarchive.store import Store  # noqa: E402
from obsarchive.web import create_app  # noqa: E402

RESULTS = Path(__file__).with_name("PORTAL.md")
NIGHT_SIZE, PROGRAMS, STARS, NOTES = 200, 40, 118_000, 2000
HEADER = [{"key": f"KEY{i}", "value": i, "comment": "comment of a card"} for i in range(60)]
CURVE = [[round(0.05 * i, 2), round(2 + 0.2 * i, 2), 0.7] for i in range(35)]
FIRST = datetime(2012, 6, 1, tzinfo=UTC)
REPEATS, WARMING = 30, 3
PASSWORD = "perihelion of 1801"
GOALS = {"night": 150.0, "search": 250.0, "target": 250.0, "VO": 250.0}
MEMORY_GOAL_MB, RATIO_GOAL = 400.0, 1.3


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
    star = rng.randrange(STARS)
    program, target, band = str(1 + number % PROGRAMS), f"HIP_{star}", rng.choice(["Si", "lp600", "Sz"])
    sky = random.Random(star)
    name = f"{program}_{target}_VIC_{band}_o_{when:%Y%m%d_%H%M%S.%f}"
    strehl, flag = round(rng.uniform(2, 40), 2), "OK" if rng.random() < 0.9 else "BAD?"
    place = coordinates(
        sky.uniform(0, 360), float(np.degrees(np.arcsin(sky.uniform(-0.5, 1)))), {"AZIMUTH": 100.0, "ELVATION": 60.0}
    )
    thumb = {"name": f"preview/{name}_thumb.png", "bytes": 9999, "sha256": f"{rng.getrandbits(256):064x}"}
    preview = record(rng, number, {})
    preview["products"] += [thumb, {**thumb, "name": f"preview/{name}_cropped.png"}]
    reduced = record(rng, number, {"frames_total": 770, "frames_used": 768, "calibration": "dark_6"})
    reduced["products"] += vo_queries.images(place)
    steps = {
        "reduce": reduced,
        "strehl": record(rng, number, {"ratio_percent": strehl, "fwhm_arcsec": 0.12, "flag": flag}),
        "preview": preview,
        "pca": record(rng, number, {"curve": CURVE, "components": 7}),
    }
    return {
        "_id": name,
        "night": f"{night:%Y%m%d}",
        "name": target,
        "target": target_fields({"name": target}),
        "science_program": {"program_id": program, "program_PI": [f"pi{program}"]},
        "date_utc": when,
        "telescope": "KPNO_2.1m",
        "camera": "VIC",
        "filter": band,
        "exposure_s": 90.0,
        "magnitude": round(rng.uniform(4, 16), 2),
        "coordinates": place,
        "seeing": {"median_arcsec": round(rng.uniform(0.8, 2), 2), "nearest_arcsec": round(rng.uniform(0.8, 2), 2)},
        "fits_header": HEADER,
        "raw_data": {"location": ["host", "/raw"], "data": [f"{name}.fits.bz2"], "signature": "x" * 16},
        "pipelined": {"bright_star": {"classified_as": "high_flux", "steps": steps}},
        "distributed": {"status": True},
    }


def fill(store: Store, first: int, last: int) -> None:
    """Add observations of these numbers, with their nights and some notes."""
    rng = random.Random(first)
    for start in range(first, last, 2000):
        many = [observation(rng, number) for number in range(start, min(start + 2000, last))]
        store.database["objects"].insert_many(many, ordered=False)
        if start % 100_000 == 0:
            store.notes.mark({each["_id"]: each["night"] for each in many[: NOTES // 10]}, "bad", "clouds", "PI")
    for number in range(first // NIGHT_SIZE, last // NIGHT_SIZE):
        night = f"{FIRST + timedelta(days=number):%Y%m%d}"
        frames = [
            {"date_utc": f"{night[:4]}-{night[4:6]}-{night[6:]}T03:{i:02d}:00", "fwhm_arcsec": 1.2} for i in range(40)
        ]
        store.database["aux"].insert_one(
            {"_id": night, "seeing": {"steps": {"measure": {"results": {"frames": frames}}}}}
        )


def addresses(kind: str, rng: random.Random, observations: int) -> list[str]:
    if kind == "night":
        days = (FIRST + timedelta(days=rng.randrange(observations // NIGHT_SIZE)) for _ in range(REPEATS))
        return [f"/night/{day:%Y%m%d}" for day in days]
    if kind == "target":
        return [f"/target/hip {rng.randrange(STARS)}" for _ in range(REPEATS)]
    if kind in vo_queries.KINDS:
        queries = vo_queries.makers(rng, FIRST, observations // NIGHT_SIZE)
        return [queries[kind.removeprefix("VO: ")]() for _ in range(REPEATS)]
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
        "bad": lambda: "/search?quality=bad",
        "sorted by magnitude": lambda: "/search?date_from=2012-01-01&sort=magnitude",
    }
    return [makers[kind.removeprefix("search: ")]() for _ in range(REPEATS)]


KINDS = (
    "night",
    "target",
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
            "bad",
            "sorted by magnitude",
        )
    ),
    *vo_queries.KINDS,
)


def cpu_ms(mongod: int) -> float:
    """Processor time that this process and the database have used [ms]."""
    fields = Path(f"/proc/{mongod}/stat").read_text().rpartition(")")[2].split()
    return 1e3 * time.process_time() + 1e3 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(client, kind: str, observations: int, mongod: int) -> tuple[np.ndarray, float]:  # type: ignore[no-untyped-def]
    """Times of the server [ms] and mean processor time [ms], after some requests that warm the caches.

    Processor time depends less on what else the machine does.
    """
    times, begun = [], 0.0
    for number, address in enumerate(addresses(kind, random.Random(2), observations)):
        if number == WARMING:
            begun = cpu_ms(mongod)
        start = time.perf_counter()
        answer = client.get(address)
        answer.get_data()
        times.append(1e3 * (time.perf_counter() - start))
        assert answer.status_code == 200 or kind == "target", address  # not every star was observed
    return np.array(times[WARMING:]), (cpu_ms(mongod) - begun) / (REPEATS - WARMING)


def memory_mb() -> float:
    """Resident memory of this process [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def measure(app, observations: int, before: dict, mongod: int, only: str = "") -> list[str]:  # type: ignore[no-untyped-def]
    """Return the table for the present number of observations; `before` has the percentiles of the last one."""
    lines = [
        f"# The portal with {observations:,} observations\n".replace(",", " "),
        "| page | who | median [ms] | 95 % [ms] | goal [ms] | | CPU [ms] | ratio to the number before |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for who in ("administrator", "PI of two programmes"):
        name = who.split()[0]
        client = app.test_client()
        token = client.get("/login").text.split('name="csrf_token" value="')[1].split('"')[0]
        sent = {"csrf_token": token, "username": name, "password": PASSWORD}
        assert client.post("/login", data=sent).status_code == 302
        for kind in (kind for kind in KINDS if kind.startswith(only)):
            times, cpu = timed(client, kind, observations, mongod)
            goal, slow = GOALS[kind.split(":")[0]], float(np.percentile(times, 95))
            ratio = f"{cpu / before[who, kind]:.2f}" if (who, kind) in before else "–"
            before[who, kind] = cpu
            reached = "reached" if slow < goal else "MISSED"
            numbers = f"{np.median(times):.0f} | {slow:.0f} | {goal:.0f} | {reached} | {cpu:.0f} | {ratio}"
            line = f"| {kind} | {who} | {numbers} |"
            lines.append(line)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    used = memory_mb()
    reached = "reached" if used < MEMORY_GOAL_MB else "MISSED"
    lines.append(f"\nMemory of the process: {used:.0f} MB (goal: {MEMORY_GOAL_MB:.0f} MB, {reached}).\n")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the portal's pages with very many observations.")
    parser.add_argument("--observations", type=int, nargs="+", default=[100_000])
    parser.add_argument(
        "--folder",
        type=Path,
        help="where the database stays; by default it is a temporary one",
    )
    parser.add_argument(
        "--settle", type=float, default=65.0, help="pause before measuring: longer than a checkpoint [s]"
    )
    parser.add_argument("--only", default="", help="begin of the names of the pages that are measured, such as VO")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    accounts._HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedMongod(folder / "db"))
        config = load(PROJECT / "config.json")
        store = Store(server.uri, "archiver")
        app = create_app(config, store)
        app.logger.disabled = True
        for name, programs in (("administrator", "all"), ("PI", ["3", "7"])):
            if store.users.find(name) is None:
                accounts.add_user(store.users, name, programs)
                accounts.set_password(store.users, name, PASSWORD)
        gc.collect()
        gc.freeze()  # this and the next as server_data_archive.py does
        gc.set_threshold(GARBAGE)
        lines: list[str] = []
        before: dict = {}
        for observations in sorted(asked.observations):
            filled = store.database["objects"].estimated_document_count()
            if filled < observations:
                store.database["objects"].drop_indexes()  # fifty to keep take six times as long
                fill(store, filled, observations)
            store.ensure_indexes(steps_of(decision_chain(config)))
            time.sleep(asked.settle)  # what is written must not disturb what is read
            lines += measure(app, observations, before, server.pid, asked.only)
            asked.output.write_text("\n".join(lines) + "\n")
        store.close()


if __name__ == "__main__":
    main()
