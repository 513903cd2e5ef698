"""Looking for sources, on a real database: what is found is what plain arithmetic finds."""

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Cone, CursorError, SourceCriteria, Sources, Store

N = 400
RUNS = ("A", "B")


def document(number: int, ra: float, dec: float) -> dict:
    place = {"type": "Point", "coordinates": [(ra + 180) % 360 - 180, dec]}
    names = {"_id": f"S{number:03d}", "aliases": [f"Gaia {number}", "twin" if number in (3, 300) else f"x{number}"]}
    return {**names, "ra_deg": ra, "dec_deg": dec, "geojson": place}


@pytest.fixture(scope="module")
def sky(mongo_server: Server) -> Iterator[tuple[Sources, np.ndarray, np.ndarray]]:
    """Sources everywhere, many of them at the poles and at the zero of right ascension."""
    name = f"test_{uuid4().hex}"
    store, rng = Store(mongo_server.uri, name), np.random.default_rng(1)
    surveys = store.surveys
    surveys.ensure_indexes()
    ra, dec = rng.uniform(0, 360, N), np.degrees(np.arcsin(rng.uniform(-1, 1, N)))
    dec[:60], dec[60:120] = 90 - rng.uniform(0, 0.02, 60), -90 + rng.uniform(0, 0.02, 60)
    ra[120:200], dec[120:200] = rng.normal(0, 0.01, 80) % 360, rng.normal(0, 0.01, 80)
    documents = [document(i, float(ra[i]), float(dec[i])) for i in range(N)]
    surveys.register(documents, "A")
    surveys.register(documents[::3], "B")
    surveys.register([{**document(900, 0.0, 0.0)}], "C")
    events = [(i, run) for i in range(0, N, 5) for run in RUNS if run == "A" or i % 3 == 0]
    surveys.save(
        "detections",
        [
            {
                "_id": f"{run}{i}{k}",
                "run": run,
                "source_name": f"S{i:03d}",
                "simulated": k == 2,
                "strength": 5.0 + (7 * i) % 50 + k,
            }
            for i, run in events
            for k in range(3)
        ],
    )
    failed = [
        {"_id": f"A/{i}", "run": "A", "source_name": f"S{i:03d}", "state": "failed", "reason": "why"}
        for i in range(0, N, 7)
    ]
    surveys.save("properties", failed)
    surveys.save(
        "raw_photometry",
        [{"_id": f"Z{i}", "observatory": "Z", "source_name": f"S{i:03d}", "state": "failed"} for i in range(0, N, 11)],
    )
    yield store.sources, ra, dec
    store.client.drop_database(name)
    store.close()


def walked(sources: Sources, runs: object, wanted: SourceCriteria, limit: int = 37) -> list[str]:
    """All pages, one after the other."""
    found, cursor = [], ""
    while True:
        page = sources.page(runs, wanted, limit, cursor)
        found += [source["_id"] for source in page.sources]
        cursor = page.following
        if not cursor:
            assert page.count == len(found)
            return found


def separations(ra: np.ndarray, dec: np.ndarray, cone: Cone) -> np.ndarray:
    """Angles from the centre of a cone [deg]."""
    a, d, a0, d0 = (np.radians(angle) for angle in (ra, dec, cone.ra_deg, cone.dec_deg))
    chord = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(chord)))


centres = st.one_of(
    st.tuples(st.floats(0, 360), st.floats(-90, 90)),
    st.tuples(st.floats(0, 360), st.sampled_from([90.0, -90.0, 89.995, -89.995])),
    st.tuples(st.sampled_from([0.0, 359.999, 0.001]), st.floats(-0.01, 0.01)),
)


@settings(max_examples=60)
@given(centre=centres, radius=st.sampled_from([0.005, 0.02, 1.0, 30.0]))
def test_cones_are_those_of_spherical_trigonometry(sky, centre: tuple[float, float], radius: float) -> None:
    sources, ra, dec = sky
    apart = separations(ra, dec, Cone(*centre, radius))
    # whatever lies on the edge to a microarcsecond may count or not
    if np.any(np.abs(apart - radius) < 1e-9):
        return
    inside = np.flatnonzero(apart < radius)
    wanted = [f"S{i:03d}" for i in inside[np.argsort(apart[inside], kind="stable")]]
    assert walked(sources, ["A"], SourceCriteria(cone=Cone(*centre, radius))) == wanted


@pytest.mark.parametrize("runs", [None, ["A"], ["B"], ["A", "B"], ["C"], []])
def test_everybody_finds_what_he_may_see(sky, runs: list[str] | None) -> None:
    sources, *_ = sky
    wanted = {f"S{i:03d}" for i in range(N) if runs is None or "A" in runs or ("B" in runs and i % 3 == 0)}
    wanted |= {"S900"} if runs is None or "C" in runs else set()
    assert walked(sources, runs, SourceCriteria()) == sorted(wanted)
    assert (sources.find("S001", runs) is not None) == ("S001" in wanted)
    assert [found["_id"] for found in sources.near(runs, Cone(0.0, 0.0, 1e-6), 5)] == (
        ["S900"] if "S900" in wanted else []
    )


@pytest.mark.parametrize("runs", [None, ["A"], ["B"]])
def test_events_come_by_their_strength(sky, runs: list[str] | None) -> None:
    sources, *_ = sky
    found = walked(sources, runs, SourceCriteria(which="detected"))
    numbers = [i for i in range(0, N, 5) if runs != ["B"] or i % 3 == 0]
    assert sorted(found) == [f"S{i:03d}" for i in numbers]
    strengths = [(7 * int(name[1:])) % 50 for name in found]
    assert strengths == sorted(strengths, reverse=True)
    events = sources.events(found[:3], runs)
    assert events[found[0]].strongest == 6.0 + strengths[0], "simulated ones are stronger"
    per_source = 4 if runs is None and int(found[0][1:]) % 3 == 0 else 2
    assert events[found[0]].count == per_source


def test_failures_are_those_of_the_analysis_and_of_the_download(sky) -> None:
    sources, *_ = sky
    wanted = sorted({f"S{i:03d}" for i in (*range(0, N, 7), *range(0, N, 11))})
    assert walked(sources, None, SourceCriteria(which="failed")) == wanted
    of_b = [name for name in wanted if int(name[1:]) % 11 == 0 and int(name[1:]) % 3 == 0]
    assert walked(sources, ["B"], SourceCriteria(which="failed")) == of_b
    assert sources.failures(["S077", "S001"], None) == {"S077": [("A", "why"), ("Z", "")]}
    assert sources.failures(["S077"], ["B"]) == {"S077": [("Z", "")]}


@pytest.mark.parametrize("which", ["", "detected", "failed"])
def test_names_begin_with_a_text_or_are_another_name(sky, which: str) -> None:
    sources, *_ = sky
    everything = walked(sources, ["A"], SourceCriteria(which=which))
    for text, fits in (
        ("S03", lambda n: n.startswith("S03")),
        ("twin", lambda n: n in ("S003", "S300")),
        ("Gaia 3", lambda n: n == "S003"),
    ):
        assert walked(sources, ["A"], SourceCriteria(text, which=which)) == [name for name in everything if fits(name)]
    cone = Cone(0.0, 0.0, 5.0)
    near = walked(sources, ["A"], SourceCriteria(cone=cone, which=which))
    assert set(near) == set(everything) & set(walked(sources, ["A"], SourceCriteria(cone=cone)))
    assert walked(sources, ["A"], SourceCriteria("S13", cone, which)) == [
        name for name in near if name.startswith("S13")
    ]


@pytest.mark.parametrize("cursor", ["x", "-1", "5001", "²"])
def test_marks_that_were_not_given_out_are_refused(sky, cursor: str) -> None:
    with pytest.raises(CursorError):
        sky[0].page(None, SourceCriteria(which="failed"), 5, cursor)


def test_long_lists_are_capped(sky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obsarchive.store.survey_queries.MOST_GATHERED", 11)
    monkeypatch.setattr("obsarchive.store.survey_queries.COUNT_CAP", 21)
    for wanted in (
        SourceCriteria(cone=Cone(0, 0, 30)),
        SourceCriteria(which="detected"),
        SourceCriteria(which="failed"),
    ):
        page = sky[0].page(["A"], wanted, 5)
        assert (page.count, page.is_capped, page.following) == (11, True, "5")
    page = sky[0].page(["A"], SourceCriteria(), 5)
    assert (page.count, page.is_capped) == (21, True)


def test_queries_use_indexes(sky) -> None:
    """None looks at every source."""
    database = sky[0].sources.database
    plans = [
        database.sources.find({"$and": [{"projects": {"$in": ["A", "B"]}}, {"_id": {"$gt": "S1"}}]})
        .sort("_id", 1)
        .explain(),
        database.detections.find({"$and": [{"run": {"$in": ["A", "B"]}}, {"simulated": False}]})
        .sort([("strength", -1), ("source_name", 1)])
        .explain(),
        database.raw_photometry.find({"$and": [{"state": "failed"}]}).sort("source_name", 1).explain(),
    ]
    for plan in plans:
        text = str(plan["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in text
        assert "COLLSCAN" not in text
        assert "'SORT'" not in text
