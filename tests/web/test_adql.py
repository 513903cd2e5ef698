"""ADQL: how queries are read and evaluated, and that the database never hides a row that a condition is true of."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obsarchive.config.loading import load
from obsarchive.core.archive_paths import Layout
from obsarchive.instruments.base import coordinates
from obsarchive.store import Store
from obsarchive.web.vo import query_runner
from obsarchive.web.vo.adql_evaluation import Compiler, LikePattern, Table
from obsarchive.web.vo.adql_nodes import Arithmetic, Between, ColumnName, Constant, Logical, Negation
from obsarchive.web.vo.adql_parser import QueryError, parse
from obsarchive.web.vo.archive_files import Archive
from obsarchive.web.vo.obscore import TableColumn
from obsarchive.web.vo.query_runner import Runner

COLUMNS = {name: TableColumn(name, kind, "") for name, kind in (("a", "double"), ("b", "double"), ("t", "char"))}
TABLE = Table("s.t", "", COLUMNS, {name: (lambda row, name=name: row.get(name)) for name in COLUMNS})


def where(condition: str, **row):
    """Evaluate a condition for a row; what is not given is missing."""
    query = parse(f"SELECT * FROM s.t WHERE {condition}")  # noqa: S608
    return Compiler(TABLE).condition(query.where)(row)


def test_operators_bind_as_in_sql() -> None:
    found = parse("SELECT a FROM t WHERE NOT a = 1 AND b BETWEEN -1 AND 2 + 3 * 4 OR t IS NULL").where
    match found:
        case Logical("OR", (Logical("AND", (Negation(), Between(ColumnName("b"), Constant(-1.0), high))), _)):
            product = Arithmetic("*", Constant(3.0), Constant(4.0))
            assert high == Arithmetic("+", Constant(2.0), product)
        case _:
            pytest.fail(str(found))


@pytest.mark.parametrize(
    ("condition", "row", "expected"),
    [
        ("a = 1 AND b > 2", {"a": 1}, None),
        ("a = 2 AND b > 2", {"a": 1}, False),
        ("a = 1 OR b > 2", {"a": 1}, True),
        ("a = 2 OR b > 2", {"a": 1}, None),
        ("NOT a = 1", {}, None),
        ("a IN (1, NULL)", {"a": 1}, True),
        ("a NOT IN (1, NULL)", {"a": 2}, None),
        ("a IS NOT NULL", {"a": 0}, True),
        ("a / b > 1", {"a": 1, "b": 0}, None),
        ("SQRT(a) >= 0", {"a": -1}, None),
        ("t = 'it''s'", {"t": "it's"}, True),
        ("UPPER(t) = 'AB'", {"t": "ab"}, True),
        ("1 = CONTAINS(POINT(a, b), POLYGON(359, -1, 1, -1, 1, 1, 359, 1))", {"a": 0.5, "b": 0.5}, True),
        ("1 = CONTAINS(POINT(a, b), POLYGON(359, -1, 1, -1, 1, 1, 359, 1))", {"a": 2, "b": 0.5}, False),
        ("DISTANCE(POINT(a, b), POINT(359.5, 0)) < 0.6", {"a": 0, "b": 0}, True),
        ("a -1 = 2 -- and a comment", {"a": 3}, True),
    ],
)
def test_conditions_know_true_false_and_unknown(condition, row, expected) -> None:
    assert where(condition, **row) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("a%", "abc", True),
        ("%c", "abc", True),
        ("%b%", "abc", True),
        ("a_c", "abc", True),
        ("a%b%a", "aba", True),
        ("a%a", "a", False),
        ("a.c", "abc", False),
        ("%" * 50 + "x", "a" * 5000, False),
    ],
)
def test_patterns(pattern, text, expected) -> None:
    assert LikePattern(pattern).matches(text) is expected


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a FROM",
        "SELECT a, FROM t",
        "SELECT a FROM t WHERE a == 1",
        "SELECT a FROM t; DROP TABLE t",
        "SELECT a FROM t WHERE a = 1 UNION SELECT a FROM t",
        "SELECT TOP x a FROM t",
        "SELECT a FROM t WHERE t = 'open",
        "\0",
    ],
)
def test_what_is_no_query_is_rejected_with_its_place(query) -> None:
    with pytest.raises(QueryError, match="not understood at"):
        parse(query)


# -- restrictions -------------------------------------------------------------------------------------------------

MJD = 57000.0
TARGETS = ("HD_1", "HIP_2", "Vega")


@pytest.fixture
def files(store: Store, tmp_path: Path):
    """Observations at awkward places: across 0 h, near poles, without position, name or exposure."""
    rng = random.Random(5)
    config = load(Path(__file__).parents[2] / "config.json")
    start = datetime(2014, 12, 9, tzinfo=UTC)
    for number in range(60):
        ra = rng.choice([0.0, 359.9999, 0.0001, 180.0, 90.0]) + rng.uniform(-0.001, 0.001)
        dec = rng.choice([0.0, 45.0, 89.9999, -89.999, -79.9]) + rng.uniform(-0.0001, 0.0)
        when = start + timedelta(hours=number)
        place = coordinates(ra % 360, dec, {})
        corners = [
            [(ra + x) % 360, dec + y] for x, y in ((0.001, -1e-3), (-0.001, -1e-3), (-0.001, 1e-3), (0.001, 1e-3))
        ]
        corners = [[x, max(-90.0, min(90.0, y))] for x, y in corners]
        image = {"shape": [100, 100], "corners_deg": corners, "pixel_arcsec": 0.07}
        product = {"name": "100p.fits", "bytes": 10, "sha256": "0" * 64, "image": image}
        step = {"state": "done", "products": [product], "results": {"fwhm_arcsec": rng.choice([0.1, 0.2])}}
        document = {
            "_id": f"3_{TARGETS[number % 3]}_VIC_{rng.choice(['Si', 'lp600'])}_o_{when:%Y%m%d_%H%M%S.%f}",
            "night": f"{when:%Y%m%d}",
            "name": rng.choice([*TARGETS, None]),
            "science_program": {"program_id": rng.choice(["3", "4"])},
            "date_utc": when,
            "telescope": rng.choice([*config.telescope, "elsewhere"]),
            "camera": rng.choice(["VIC", "IR"]),
            "filter": rng.choice(["Si", "lp600", "odd"]),
            "exposure_s": rng.choice([30.0, 90.0, None]),
            "coordinates": place if rng.random() < 0.9 else {},
            "raw_data": {"location": ["host", "/raw"], "data": ["a.fits"]},
            "pipelined": {"bright_star": {"steps": {"reduce": step}}},
        }
        store.observations.insert(document)
        masters = [{"name": "dark_6.fits", "bytes": 1, "sha256": "0" * 64}]
        store.nights.touch(document["night"])
        store.nights.set_fields(document["night"], {"calib.steps.darks": {"state": "done", "products": masters}})
    addresses = dict.fromkeys(("product", "raw", "master"), "http://x/SubjectName/FolderName/FileName")
    archive = Archive("archive", "ivo://x", config.telescope, Layout(tmp_path), addresses)
    return Runner({"_id": "admin", "programs": "all"}, store.files, archive)


def condition(rng: random.Random, depth: int = 0) -> str:
    """Return a condition at random."""
    if depth < 3 and rng.random() < 0.5:
        parts = f" {rng.choice(['AND', 'OR'])} ".join(condition(rng, depth + 1) for _ in range(2))
        return f"({parts})" if rng.random() < 0.7 else f"NOT ({parts})"
    sign = rng.choice(["=", "<", "<=", ">", ">=", "<>"])
    ra, dec = rng.choice([0.0, 359.9995, 0.0005, 180, 90.001]), rng.choice([0, 45.0005, 89.9995, -89.999, -90])
    radius, time = rng.choice([0, 0.001, 0.5, 5, 100]), MJD + rng.choice([0, 0.5, 1, 1.04, 2])
    place = f"POINT('ICRS', {ra}, {dec})"
    circle = f"CIRCLE('ICRS', {ra}, {dec}, {radius})"
    return rng.choice(
        [
            f"t_min {sign} {time}",
            f"t_max {sign} {time}",
            f"{time} {sign} t_min",
            f"t_min BETWEEN {time} AND {time + rng.choice([0.1, 1])}",
            f"t_exptime {sign} {rng.choice([30, 90])}",
            f"s_ra {sign} {ra}",
            f"s_ra BETWEEN {ra} AND {ra + 0.001}",
            f"s_dec {sign} {dec}",
            f"1 = CONTAINS(POINT('ICRS', s_ra, s_dec), {circle})",
            f"0 = CONTAINS(POINT('ICRS', s_ra, s_dec), {circle})",
            f"INTERSECTS({circle}, s_region) = 1",
            f"CONTAINS({place}, s_region) = 1",
            f"DISTANCE(POINT(s_ra, s_dec), {place}) {sign} {radius}",
            f"em_min {sign} 6.5e-7",
            "em_max IS NULL",
            f"em_res_power {sign} 4",
            f"calib_level {sign} {rng.choice([0, 1, 2, 3, 4])}",
            f"dataproduct_type {sign} 'image'",
            f"target_name {sign} '{rng.choice(TARGETS)}'",
            f"target_name LIKE '{rng.choice(['H%', '%e%', '_D%', '%'])}'",
            f"obs_id LIKE '3_{rng.choice(TARGETS)}%'",
            f"obs_id ILIKE '%vega%{rng.choice(['', '0000'])}'",
            f"target_name IN ('HD_1', '{rng.choice(TARGETS)}')",
            f"proposal_id = '{rng.choice(['3', '4', '5'])}'",
            f"facility_name {sign} 'KPNO_2.1m'",
            f"instrument_name IN ('{rng.choice(['VIC', 'NOPE'])}')",
            f"{rng.choice(['s_ra', 's_region', 't_exptime', 'target_name', 'pol_states'])} IS NULL",
            "obs_publisher_did = 'ivo://x?nothing/of/ours'",
            f"s_resolution {sign} 0.1",
        ]
    )


def test_the_database_hides_no_row_that_a_condition_is_true_of(files: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(11)
    restricted, found_some = 0, 0
    everything = [row[0] for row in files.run(parse("SELECT obs_publisher_did FROM ivoa.obscore")).rows]
    assert len(everything) > 100
    for _ in range(250):
        text = f"SELECT obs_publisher_did FROM ivoa.obscore WHERE {condition(rng)}"  # noqa: S608
        quick = files.run(parse(text)).rows
        with monkeypatch.context() as patch:
            patch.setattr(query_runner.Reader, "read", lambda *_: None)
            patch.setattr(query_runner, "excludes_masters", lambda _: False)
            whole = files.run(parse(text)).rows
        assert sorted(quick) == sorted(whole), text
        restricted += len(whole) < len(everything)
        found_some += bool(whole)
    assert restricted > 150
    assert found_some > 100


@pytest.mark.parametrize("key", ["t_min", "obs_id", "target_name", "t_exptime", "s_dec", "s_resolution"])
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_the_order_is_the_same_by_the_database_and_here(files: Runner, key: str, direction: str) -> None:
    rows = files.run(parse(f"SELECT {key} FROM ivoa.obscore ORDER BY {key} {direction}")).rows  # noqa: S608
    values = [row[0] for row in rows]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=direction == "DESC")
    lacking = values[: len(values) - len(known)] if direction == "ASC" else values[len(known) :]
    assert set(lacking) <= {None}
    top = files.run(parse(f"SELECT TOP 7 {key} FROM ivoa.obscore ORDER BY {key} {direction}")).rows  # noqa: S608
    assert [row[0] for row in top] == values[:7]
