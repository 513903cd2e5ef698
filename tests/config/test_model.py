"""``config.json``: what a wrong one is told, what a right one means."""

import copy
import itertools
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.config.loading import load
from obsarchive.config.model import Config, QuietHours
from obsarchive.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config.json"
SMALL: dict[str, Any] = {
    "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
    "telescope": {
        "P60": {
            "primary_m": 1.5,
            "plate_scale_arcsec": 0.043,
            "detector_px": [1024, 1024],
            "filters": {"Si": {"wavelength_nm": 763, "width_nm": 153}},
        }
    },
    "pipelines": [{"class": "tests.sample_pipelines.Toy", "when": "magnitude < 12"}],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small configuration with one value put at a dotted path."""
    config = copy.deepcopy(SMALL)
    *folders, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place: Any = config
    for key in folders:
        place = place[key] if isinstance(key, int) else place.setdefault(key, {})
    place[last] = value
    return config


def read(folder: Path, config: Any) -> Config:
    file = folder / "config.json"
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    return load(file)


def complaint(folder: Path, config: Any) -> str:
    """What is said about a wrong configuration; the file is always named."""
    with pytest.raises(ConfigError) as failure:
        read(folder, config)
    text = str(failure.value)
    assert all(line.startswith(str(folder / "config.json")) for line in text.splitlines())
    return text


def test_an_instrument_that_does_not_exist_is_one_error(tmp_path):
    raw = [{"path": "raw", "instrument": "obsarchive.instruments.HeaderDrive"}]
    lines = complaint(tmp_path, changed("paths.raw", raw)).splitlines()
    assert len(lines) == 1
    assert "paths.raw.0.instrument: no class 'obsarchive.instruments.HeaderDrive'" in lines[0]


def test_an_empty_list_of_raw_folders_is_still_an_error(tmp_path):
    assert "paths.raw: a list of at least 1 entry is expected; found an empty list" in complaint(
        tmp_path, changed("paths.raw", [])
    )


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "value", "both"),
    [
        ("raw", ["raw", "archive"], "archive and raw"),
        ("tmp", "archive", "archive and tmp"),
        ("tmp", "raw", "tmp and raw"),
    ],
)
def test_folders_of_different_use_are_different(tmp_path, name, value, both):
    said = complaint(tmp_path, changed(f"paths.{name}", value))
    assert f"is both {both}: give each a folder of its own" in said


def test_a_raw_folder_is_given_once_and_paths_can_be_opened(tmp_path):
    assert "raw more than once" in complaint(tmp_path, changed("paths.raw", ["raw", "other", "raw/"]))
    assert "paths.archive: a path without the character 0" in complaint(tmp_path, changed("paths.archive", "a\0b"))


def test_relative_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/observer")
    config = read(tmp_path, changed("paths.logs", "~/logs"))
    assert config.paths.raw[0].path == tmp_path / "raw"
    assert config.paths.archive == tmp_path / "archive"
    assert config.paths.logs == Path("/home/observer/logs")
    assert config.source == tmp_path / "config.json"
    assert config.database_folder == tmp_path / "archive" / ".db"


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.json: no such file; copy the shipped"):
        load(tmp_path / "nowhere.json")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"paths": {\n  "raw": ["raw"],,\n}}', "line 2, column 18: not JSON"),
        ("", "line 1, column 1: not JSON"),
        ("[]", "expected one JSON object, found a list"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_broken_json(tmp_path, text, words):
    assert words in complaint(tmp_path, text)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file in UTF-8"):
        load(tmp_path / "config.json")


# ------------------------------------------------------------------------------------- keys and values


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("paralel", "parallel"),
        ("parallel.n_worker", "n_workers"),
        ("daemon.quiet_hour", "quiet_hours"),
        ("misc.naps", "nap"),
        ("misc.nap.begin", None),
        ("paths.raw.0", "path"),
        ("telescope.P60.plate_scale", "plate_scale_arcsec"),
        ("telescope.P60.filters.Si.wavelenght_nm", "wavelength_nm"),
        ("pipelines.0.klass", "class"),
        ("database.passwort", "password"),
    ],
)
def test_a_misspelt_key_is_named_with_its_nearest(tmp_path, path, nearest):
    config = changed(path, {"pth": "x"} if path == "paths.raw.0" else "hidden")
    where = "paths.raw.0.pth" if path == "paths.raw.0" else path
    text = complaint(tmp_path, config)
    line = next(line for line in text.splitlines() if "unknown key" in line)
    assert f"{where}: unknown key" in line
    assert (f"did you mean {nearest!r}?" in line) == (nearest is not None)
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("paths.raw", [], "paths.raw: "),
        ("parallel.n_workers", "many", "parallel.n_workers: a whole number is expected; found 'many'"),
        ("parallel.n_workers", 0, "parallel.n_workers: a number greater than 0 is expected; found 0"),
        ("parallel.n_workers", 2.5, "parallel.n_workers: a whole number without a fraction is expected; found 2.5"),
        ("parallel", 5, "parallel: a group of keys and values is expected; found 5"),
        ("parallel.scheduler", 5, "parallel.scheduler: a text or a group of keys and values is expected; found 5"),
        ("parallel.scheduler", {"class": "nowhere.Cluster"}, "parallel.scheduler.class: no class 'nowhere.Cluster'"),
        ("parallel.scheduler", {"settings": {}}, "parallel.scheduler.class: this key is needed"),
        ("paths.raw", "raw", "paths.raw: a list is expected; found 'raw'"),
        ("pipelines", {}, "pipelines: a list is expected; found an empty group"),
        ("server.name", None, "server.name: a text is expected; found null"),
        ("server.require_totp", "often", "server.require_totp: true or false is expected; found 'often'"),
        ("server.port", [1, 2], "server.port: a whole number is expected; found a list of 2 entries"),
        ("server.vizier", "vizier.example.org", "server.vizier: a web address such as https://example.org/path is"),
        ("daemon.min_free_gb", -1, "daemon.min_free_gb: a number not less than 0 is expected; found -1"),
        ("daemon.logging_level", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR' is expected; found 'LOUD'"),
        ("telescope.P60.detector_px", [1024], "telescope.P60.detector_px.1: this entry of the list is needed"),
        ("telescope.P60.detector_px", [1, 2, 3], "detector_px: a list of at most 2 entries is expected; found a list"),
        ("alerts.recipients", [{"programs": 5, "email": ["a@b"]}], "0.programs: a list or 'all' is expected; found 5"),
        ("alerts.recipients", [{"programs": ["3", 4], "email": ["a@b"]}], "0.programs.1: a text is expected; found 4"),
        ("database.uri", "host:27017", "database.uri: an address such as mongodb://host:27017 is expected; found"),
        (
            "daemon.archiving_start_date",
            "2015/02/30",
            "daemon.archiving_start_date: a day such as 2026-03-14 is expected; found '2015-02-30'",
        ),
        ("misc.nap", {"start": "23:30"}, "misc.nap.stop: this key is needed"),
        ("misc.nap", {"start": "23:30Z", "stop": "04:00"}, "misc.nap.start: "),
        ("database.db", "a b", "database.db: a name of at most 38 letters, digits, - and _ is expected; found 'a b'"),
        ("database.mode", "external", 'database: mode "external" needs a uri'),
        ("telescope.P60.secondary_m", 2.0, "telescope.P60: secondary_m must be smaller than primary_m"),
        ("telescope.P60.vane_m", 0.5, "telescope.P60: vane_m must be smaller than a quarter of primary_m"),
        (
            "telescope.P60",
            SMALL["telescope"]["P60"] | {"valid_from": "2015/10/01", "valid_until": "2015/10/01"},
            "telescope.P60: valid_until 2015-10-01 must be later than valid_from 2015-10-01",
        ),
        ("telescope.P60.north_angle_deg", float("nan"), "telescope.P60.north_angle_deg: a finite number"),
        ("telescope.P60.primary_m", float("inf"), "telescope.P60.primary_m: a finite number"),
        (
            "server.public_url",
            "archive.example.org",
            "server.public_url: a web address such as https://example.org/path",
        ),
        (
            "pipelines.0.class",
            "tests.sample_pipelines.Nothing",
            "pipelines.0.class: no class 'tests.sample_pipelines.Nothing'",
        ),
        ("pipelines.0.class", "nowhere.Nothing", "No module named 'nowhere'"),
        (
            "pipelines.0.class",
            "Nothing",
            "no class 'Nothing': its module must stand before it, as in my_m",
        ),
        ("pipelines.0.class", "obsarchive.config.loading.load", "is not a class"),
        ("pipelines.0.when", "filter < 3", "pipelines.0.when: rule 'filter < 3'"),
        ("pipelines.0.when", "filter == ", "pipelines.0.when: rule 'filter == ': cannot be read at letter "),
        ("pipelines.0.when", "science_program.program_id == 4", "text (quote it), 4 is not"),
    ],
)
def test_a_wrong_value_is_explained(tmp_path, path, value, words):
    assert words in complaint(tmp_path, changed(path, value))


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        ("import json\nimport absent_package\n", "ModuleNotFoundError: No module named 'absent_package'", 2),
        ("def broken(:\n", "SyntaxError: ", 1),
        ("\n\nLIMIT = 1 / 0\n", "ZeroDivisionError: division by zero", 3),
        ("import json\njson.loads('')\n", "JSONDecodeError: ", 2),
        ("raise OSError(5, 'no such device')\n", "no such device", 1),
    ],
)
def test_a_module_that_fails_is_not_called_missing(tmp_path, monkeypatch, text, words, line):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / f"mine_{abs(hash(text))}.py"
    module.write_text(text)
    said = complaint(tmp_path, changed("pipelines.0.class", f"{module.stem}.Mine"))
    assert f"no class '{module.stem}.Mine': its module cannot be imported: " in said
    assert words in said
    assert f"({module}, line {line})" in said
    assert "PYTHONPATH" not in said


def test_keys_of_earlier_versions_mean_the_same(tmp_path):
    hours, recipient = {"start": "23:30", "stop": "04:00"}, {"programs": "all", "email": ["pi@example.org"]}
    old = SMALL | {
        "misc": {"nap": hours, "max_retries": 1},
        "alerts": {"tell": [recipient], "gather_s": 5},
    }
    new = SMALL | {
        "daemon": {"quiet_hours": hours, "max_retries": 1},
        "alerts": {"recipients": [recipient], "batch_window_s": 5},
    }
    assert read(tmp_path, old) == read(tmp_path, new)
    assert read(tmp_path, old).daemon.quiet_hours is not None


def test_an_old_key_beside_the_new_one_is_refused(tmp_path):
    text = complaint(tmp_path, SMALL | {"daemon": {"max_retries": 1}, "misc": {"max_retries": 2}})
    assert text.endswith("misc: unknown key beside 'daemon', which means the same: give one of the two")


def test_every_mistake_is_told_at_once(tmp_path):
    config = changed("parallel.n_worker", 3)
    config["server"] = {"port": 70000}
    del config["paths"]["archive"]
    assert len(complaint(tmp_path, config).splitlines()) == 3


def test_help_may_stand_anywhere(tmp_path):
    def with_help(value: Any) -> Any:
        if isinstance(value, dict):
            return {"help": ["any", {"thing": 1}], **{key: with_help(inner) for key, inner in value.items()}}
        return [with_help(inner) for inner in value] if isinstance(value, list) else value

    config = changed("daemon.quiet_hours", {"start": "01:00", "stop": "02:00"})
    assert read(tmp_path, with_help(config)) == read(tmp_path, config)


def test_the_shipped_file_explains_every_section():
    sections = json.loads(SHIPPED.read_text())
    assert set(sections) <= set(Config.model_fields) | {"help"}
    assert all("help" in section for section in sections.values() if isinstance(section, dict))


JARGON = re.compile(
    r"[Ii]nput should|[Tt]uple|[Dd]ictionary|[Mm]odel\b|[Ii]nstance|[Vv]alidation|[Uu]nable to|pars[ei]|[Pp]attern|"
    r"pydantic|[Ii]terable|\bint\b|\bstr\b|float|\bNone\b|\bTrue\b|function-|[Ll]iteral|Field required|\[.*\]|"
    r"should (be|have|match)"
)
"""Words of those who wrote the program, not of those who wrote the file."""
WRONG: tuple[Any, ...] = (None, True, 5, -1.5, 1e300, "x", "2026-02-30", [], [5, "x", None], {}, {"odd": 1})


def places_in(schema: dict[str, Any], whole: dict[str, Any], place: str = "") -> Iterator[str]:
    """Every key that the models know, also within lists and groups of any names."""
    if "$ref" in schema:
        yield from places_in(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, place)
    for kind in schema.get("anyOf", ()):
        yield from places_in(kind, whole, place)
    for key, inner in schema.get("properties", {}).items():
        yield f"{place}{key}"
        yield from places_in(inner, whole, f"{place}{key}.")
    for inner, key in ((schema.get("additionalProperties"), "P60"), (schema.get("items"), "0")):
        if isinstance(inner, dict):
            yield f"{place}{key}"
            yield from places_in(inner, whole, f"{place}{key}.")


def test_whatever_is_wrong_is_told_in_plain_english(tmp_path):
    """Every kind of value in every place: what is refused is refused in words that a person may have written."""
    schema = Config.model_json_schema(by_alias=True)
    places = dict.fromkeys(place for place in places_in(schema, schema) if not place.startswith("source"))
    assert len(places) > 100
    told = set()
    for place, value in itertools.product(places, WRONG):
        config = changed_within(place, value)
        try:
            read(tmp_path, config)
        except ConfigError as err:
            for line in str(err).splitlines():
                where, _, message = line.removeprefix(f"{tmp_path}/config.json: ").partition(": ")
                if not message.startswith("rule "):  # whose reader has words of its own
                    assert not JARGON.search(message.split("; found")[0]), line
                assert message, line
                told.add(where)
    assert len(told) > 80


def changed_within(path: str, value: Any) -> dict[str, Any]:
    """The small configuration with a value at a place that it may not have yet."""
    config: Any = copy.deepcopy(SMALL)
    place, keys = config, path.split(".")
    for key, following in itertools.pairwise(keys):
        at: Any = int(key) if key.isdigit() else key
        made: Any = [] if following.isdigit() else {}
        if isinstance(place, list):
            if at >= len(place):
                place.append(made)
            elif not isinstance(place[at], dict | list):
                place[at] = made
        elif not isinstance(place.get(at), dict | list):
            place[at] = made
        place = place[at]
    last = keys[-1]
    if isinstance(place, list):
        place[:] = [value, *place[1:]]
    else:
        place[last] = value
    return config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"paths": {}, "paths": {"raw": []}}', ["paths: this key is given 2 times in one object: keep one"]),
        (
            '{"parallel": {"n_workers": 1, "n_workers": 2, "n_workers": 2}, "server": {"port": 1, "port": 1}}',
            ["parallel.n_workers: this key is given 3 times", "server.port: this key is given 2 times"],
        ),
        ('{"pipelines": [{}, {"when": "a", "when": "b"}]}', ["pipelines.1.when: this key is given 2 times"]),
        ('{"seeing": {}, "SEEING": {}, "\\u0073eeing": {}}', ["seeing: this key is given 2 times"]),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path, text, words):
    """JSON would take the last of them without a word."""
    lines = complaint(tmp_path, text).splitlines()
    assert len(lines) == len(words)
    for line, part in zip(lines, words, strict=True):
        assert part in line


def test_comments_may_stand_twice(tmp_path):
    text = json.dumps(SMALL)
    assert read(tmp_path, text.replace("{", '{"help": "one", "help": ["two", {"a": 1}], ', 1)) == read(tmp_path, text)


# ------------------------------------------------------------------------------------- secrets


def test_secrets_come_from_the_environment_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DOME_PASSWORD", "azimuth")
    (tmp_path / "key").write_text("zenith\n")
    config = changed("database.password", {"env": "DOME_PASSWORD"})
    config["server"] = {"secret_key": {"file": "key"}}
    found = read(tmp_path, config)
    assert found.database.password.get_secret_value() == "azimuth"
    assert found.server.secret_key.get_secret_value() == "zenith"
    assert "azimuth" not in repr(found) + found.model_dump_json()


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ("hunter2", "never written here"),
        ({"env": "HUNTER2", "default": "hunter2"}, "never written here"),
        (["hunter2"], "never written here"),
        ({"env": "SURELY_NOT_SET"}, "environment variable SURELY_NOT_SET is not set"),
        ({"file": "no/such/file"}, "cannot read the secret"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path, secret, words):
    text = complaint(tmp_path, changed("database.password", secret))
    assert "database.password: " in text
    assert words in text
    assert "hunter2" not in text


# ------------------------------------------------------------------------------------- naps


@pytest.mark.parametrize(
    ("start", "stop", "inside", "outside"),
    [
        ("23:30", "04:00", ["23:30", "23:59", "00:00", "03:59"], ["23:29", "04:00", "12:00"]),
        ("09:00", "17:30", ["09:00", "17:29"], ["08:59", "17:30", "00:00"]),
        ("22:00", "00:00", ["22:00", "23:59"], ["00:00", "21:59"]),
        ("06:00", "06:00", [], ["06:00", "05:59"]),
    ],
)
def test_naps_also_over_midnight(start, stop, inside, outside):
    hours = QuietHours(start=start, stop=stop, frame="UTC")

    def covered(clock: str) -> bool:
        hour, minute = map(int, clock.split(":"))
        return hours.covers(datetime(2026, 3, 14, hour, minute, tzinfo=UTC))

    assert [clock for clock in inside + outside if covered(clock)] == inside


@pytest.mark.parametrize(
    ("zone", "utc", "asleep"),
    [
        ("America/Phoenix", "2026-03-15T06:30", True),  # 23:30, no summer time ever
        ("America/Phoenix", "2026-07-15T06:29", False),
        ("Europe/Berlin", "2026-01-15T22:30", True),  # 23:30 CET
        ("Europe/Berlin", "2026-07-15T21:30", True),  # 23:30 CEST
        ("Europe/Berlin", "2026-07-15T02:30", False),  # 04:30 CEST
        ("Europe/Berlin", "2026-03-29T01:30", True),  # 03:30 CEST, an hour that began at 02:00 CET
        ("Europe/Berlin", "2026-10-25T02:30", True),  # 03:30 CET, after the hour that came twice
    ],
)
def test_local_naps_follow_the_clock_on_the_wall(monkeypatch, zone, utc, asleep):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert QuietHours(start="23:30", stop="04:00").covers(datetime.fromisoformat(f"{utc}+00:00")) is asleep
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.times(), st.times(), st.datetimes(timezones=st.just(UTC)))
def test_a_nap_and_its_complement_share_the_day(start, stop, now):
    hours, rest = QuietHours(start=start, stop=stop, frame="UTC"), QuietHours(start=stop, stop=start, frame="UTC")
    assert hours.covers(now) + rest.covers(now) == (start != stop)


# ------------------------------------------------------------------------------------- telescopes, digest


def test_the_date_chooses_the_telescope():
    config = load(SHIPPED)
    change = date(2015, 10, 1)
    assert config.telescope_of("VIC", change - timedelta(days=1)) == "Palomar_P60"
    assert config.telescope_of("VIC", change) == "KPNO_2.1m"
    assert config.telescope_of("IRC", change) is None


def test_the_digest_follows_what_decides_on_pixels(tmp_path):
    before = read(tmp_path, SMALL).digest
    assert read(tmp_path, changed("daemon.loop_interval_s", 3)).digest == before
    assert read(tmp_path, changed("paths.tmp", "elsewhere")).digest == before
    assert read(tmp_path, changed("pipelines.0.settings", {"text": "x"})).digest != before
    assert read(tmp_path, changed("telescope.P60.plate_scale_arcsec", 0.044)).digest != before
