"""One meaning, one hash: whoever writes it, in whatever order, in whichever process."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.errors import ConfigError
from surveys import provenance
from surveys.analysis import load_class
from surveys.config_files import read_section
from surveys.observatory import VirtualObservatory
from surveys.parameters import Parameters
from surveys.provenance import canonical, code_of, digest_of_code, hash_of, seed_of, write_config

CONFIG = {
    "project": {"name": "toy", "obs_names": ["ZTF", "TESS"], "vc": True},
    "finder": {"snr_threshold": 5.0, "bands": {"g", "r", "i"}, "where": None},
}
SETS = "{'a', 'b', 'c', 'd', 1, '1', (2, '2'), ('2', 2), None, 'None', True, 'True', 0.5}"
"""Text has another order in each process."""


# ---------------------------------------------------------------------------------------------- configurations


def test_order_of_keys_does_not_count():
    def turned(value):
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    assert list(turned(CONFIG)) != list(CONFIG)
    assert hash_of(turned(CONFIG)) == hash_of(CONFIG)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (3, 3.0),
        (-0.0, 0),
        (np.float64(0.25), 0.25),
        (np.int16(3), 3),
        (np.True_, True),
        (np.array([1.0, 2.5]), [1, 2.5]),
        ((1, 2), [1, 2]),
        ({"b", "a"}, frozenset({"a", "b"})),
        ({"a"}, ["a"]),
        ({3: "x"}, {"3": "x"}),
        (Path("/tmp") / "x", "/tmp/x"),  # noqa: S108 - only a name
    ],
)
def test_ways_of_writing_the_same(one, other):
    assert hash_of({"x": [one, {"y": one}]}) == hash_of({"x": [other, {"y": other}]})


def test_other_values_have_other_hashes():
    values = [
        3,
        3.5,
        "3",
        True,
        False,
        None,
        0,
        "",
        [],
        [3],
        [[3]],
        {},
        {"a": 3},
        {"a": "3"},
        [1, 2],
        [2, 1],
        float("nan"),
    ]
    values += [float("inf"), 10**300, 1e-300, 3.0000000000000004]
    hashes = [hash_of({"x": value}) for value in values]
    assert len(set(hashes)) == len(values)
    assert hash_of({"y": 3}) not in hashes
    assert all(len(found) == provenance.HASH_DIGITS and int(found, 16) >= 0 for found in hashes)


words = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
configs = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner))


@given(st.dictionaries(words, configs, max_size=4), st.randoms(use_true_random=False))
def test_a_configuration_that_was_written_and_read_has_the_same_hash(config, random):
    keys = list(config)
    random.shuffle(keys)
    again = yaml.safe_load(yaml.safe_dump({key: config[key] for key in keys}, allow_unicode=True))
    assert hash_of(again) == hash_of(config)
    assert canonical(canonical(config)) == canonical(config)


@given(st.lists(st.none() | st.integers(0, 3) | st.sampled_from(["0", "1", "2", "None"]), unique=True, max_size=6))
def test_a_set_has_one_order(items):
    """Sets of the same few items, filled in every order, do not always list them in the same one."""
    found = {hash_of({"x": set(order)}) for order in itertools.islice(itertools.permutations(items), 30)}
    assert len(found) == 1


def test_what_is_no_configuration_is_refused():
    for value in (object(), b"bytes", lambda: 3, 1j):
        with pytest.raises(ConfigError, match="holds texts, numbers, lists and mappings; found"):
            hash_of({"x": value})


def test_every_process_finds_the_same():
    code = (
        "from surveys.provenance import hash_of, seed_of, digest_of_code\n"
        f"print(hash_of({{'x': {SETS}, 'y': {CONFIG!r}}}), seed_of('WD 1145'), digest_of_code('surveys.config_files'))"
    )
    found = set()
    for seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        found.add(made.stdout)
    [line] = found
    config, seed, digest = line.split()
    assert config == hash_of({"x": eval(SETS), "y": CONFIG})  # noqa: S307 - our own text
    assert (int(seed), digest) == (seed_of("WD 1145"), digest_of_code("surveys.config_files"))


# ----------------------------------------------------------------------------------------------------- code

NUMBERS = itertools.count()
"""A digest is remembered by the name of the module."""
CODE = """
LIMIT = 5.0


def found(snr, limit=LIMIT):
    if snr > limit:
        return True
    else:
        return False


class Finder:
    pars = None

    def search(self):
        try:
            return found(3)
        finally:
            pass
"""
DESCRIBED = '''
"""A module."""
# it finds

LIMIT = 5.0   # sigma
"""Least S/N."""


def found(snr,
          limit = LIMIT):
    """Whether something was found."""

    if (snr > limit):
        return True     # yes
    else:
        return False


class Finder:
    """Finds."""

    pars = None
    """Parameters."""

    def search(self):
        """Search."""
        try:
            return found(3)
        finally:
            pass
'''


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Return what makes the digest of a text, as a module."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(code: str) -> str:
        name = f"toy_module_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(code)
        return digest_of_code(name)

    yield make
    for name in [name for name in sys.modules if name.startswith("toy_module_")]:
        del sys.modules[name]


def test_comments_blanks_and_descriptions_do_not_count(digest):
    assert digest(DESCRIBED) == digest(CODE)
    assert digest('def f():\n    """Only words."""\n') == digest('def f():\n    """Other words."""\n')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("5.0", "6.0"),
        ("snr > limit", "snr >= limit"),
        ("True", "False"),
        ("search", "find"),
        ("None", "'x'"),
        ("(3)", "(4)"),
    ],
)
def test_code_counts(digest, before, after):
    assert before in CODE
    assert digest(CODE.replace(before, after)) != digest(CODE)


def test_the_order_of_lines_counts(digest):
    assert digest("a = 1\nb = 2\n") != digest("b = 2\na = 1\n")


def test_text_that_is_a_value_counts(digest):
    assert digest('NAME = "x"\n') != digest('NAME = "y"\n')
    assert digest('def f():\n    return "x"\n') != digest('def f():\n    return "y"\n')


def test_a_module_without_source_is_told_apart_from_none():
    assert digest_of_code("builtins") == "unknown"
    assert digest_of_code("surveys.config_files") != "unknown"


def test_the_code_of_a_class_is_that_of_its_parents_too(monkeypatch):
    class Mine(Parameters):
        pass

    assert code_of([Mine]) == code_of([Mine, Parameters]) == code_of([Parameters, Mine, Mine])
    assert code_of([Mine]) != code_of([Parameters])
    recorded = {**provenance.RECORDED}
    monkeypatch.setattr(provenance, "RECORDED", recorded)
    before = code_of([Mine])
    for name in (*provenance.OF_ALL_RESULTS, "surveys.parameters"):
        known, recorded[name] = recorded[name], "changed"
        assert code_of([Mine]) != before
        recorded[name] = known
    assert code_of([Mine]) == before
    monkeypatch.setattr(provenance, "digest_of_code", {__name__: "changed"}.__getitem__)
    assert code_of([Mine]) != before


# ------------------------------------------------------------------------------------------ seeds and files


def test_seeds_differ_and_suit_numpy():
    seeds = {seed_of(f"source {n}") for n in range(1000)}
    assert len(seeds) == 1000
    assert max(seeds) < 2**64
    assert np.random.default_rng(seed_of("")).random() < 1


def test_the_configuration_of_a_run_can_be_read_as_that_of_the_next(tmp_path):
    config = {**CONFIG, "project": {**CONFIG["project"], "limit": np.float32(0.5), "folder": Path("x/ü")}}
    path = write_config(tmp_path / "TOY_ab", config, "ab")
    assert path == tmp_path / "TOY_ab/00_config_ab.yaml"
    assert "ab" in path.read_text().splitlines()[0]
    assert read_section(str(path), None, "project") == {**CONFIG["project"], "limit": 0.5, "folder": "x/ü"}
    assert read_section(str(path), None, "finder") == {**CONFIG["finder"], "bands": ["g", "i", "r"]}
    before = path.read_bytes()
    write_config(tmp_path / "TOY_ab", config, "ab")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(("module", "name"), [("surveys.ztf", "VirtualZTF"), ("surveys.tess", "VirtualTESS")])
def test_configurations_of_earlier_versions_find_the_classes_of_surveys(module: str, name: str) -> None:
    assert load_class(module, name, VirtualObservatory).__name__ == name
