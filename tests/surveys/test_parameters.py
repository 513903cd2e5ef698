"""Parameters: declared, typed, locked; files and arguments; nothing leaks, and no secret is shown."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from obsarchive.errors import ConfigError
from surveys.config_files import find_file, read_section
from surveys.parameters import Configured, Parameters, UnknownParameter, WrongType, legalize

PASSWORD = "correct-horse-battery-staple"


class ParsToy(Parameters):
    default_cfg_key = "project"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = self.add_par("threshold", 5.0, float, "least S/N of an event", unit="sigma")
        self.num_injections = self.add_par("num_injections", 1, int, "events put in")
        self.num_kernels = self.add_par("num_kernels", None, (None, int), "kernels", critical=False)
        self.version_control = self.add_par("version_control", False, bool, "folders by hash")
        self.reducer = self.add_par("reducer", {"gap": 40}, dict, "arguments")
        self.bands = self.add_par("bands", {"g"}, set, "bands")
        self.anything = self.add_par("anything", 3)
        self.password = self.add_par("password", None, (None, str), "for the service", secret=True)
        self.add_alias("vc", "version_control")
        self.add_alias("limit", "threshold")
        self.add_alias("snr_limit", "threshold")


class Loose(ParsToy):
    _allow_shorthands = True


class Toy(Configured):
    pars_class = ParsToy


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder: a file of some name there would be read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------------------------- declaring


def test_a_parameter_has_its_default_and_takes_what_it_is_given():
    assert (ParsToy().threshold, ParsToy().num_kernels, ParsToy().bands) == (5.0, None, {"g"})
    pars = ParsToy(threshold=7.5, num_kernels=4)
    assert (pars.threshold, pars.num_kernels) == (7.5, 4)
    pars.threshold = 8.5
    assert pars.threshold == pars["threshold"] == 8.5


def test_a_name_is_declared_once():
    class Twice(ParsToy):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.threshold = self.add_par("threshold", 3.0, float, "again")

    with pytest.raises(ValueError, match=r"'threshold' is declared twice in Twice"):
        Twice()


def test_a_default_of_a_wrong_type_is_refused():
    class Wrong(Parameters):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.size = self.add_par("size", "large", int, "size")

    with pytest.raises(WrongType, match="'size' must be of type int, found 'large'"):
        Wrong()


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("threshold", 7, 7.0),
        ("threshold", np.float32(0.5), 0.5),
        ("threshold", np.int64(3), 3.0),
        ("num_injections", np.int16(3), 3),
        ("num_kernels", None, None),
        ("version_control", np.True_, True),
        ("password", np.str_("x"), "x"),
        ("anything", "whatever", "whatever"),
        ("anything", None, None),
    ],
)
def test_values_are_kept_as_plain_python(name, value, kept):
    pars = ParsToy(**{name: value})
    assert pars[name] == kept
    assert type(pars[name]) is type(kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "7"),
        ("threshold", True),
        ("threshold", None),
        ("num_injections", 2.0),
        ("num_injections", True),
        ("num_injections", np.True_),
        ("num_kernels", False),
        ("version_control", 1),
        ("reducer", [1]),
        ("verbose", "loud"),
        ("project", 3),
    ],
)
def test_a_wrong_type_is_refused_wherever_it_comes_from(here, name, value):
    assert issubclass(WrongType, TypeError)
    assert issubclass(WrongType, ConfigError)
    with pytest.raises(WrongType, match=f"'{name}' must be of type"):
        ParsToy(**{name: value})
    pars = ParsToy()
    before = pars.to_dict()
    for change in (
        lambda: setattr(pars, name, value),
        lambda: pars.__setitem__(name, value),
        lambda: pars.read({name: value}),
        lambda: pars.update({name: value}),
    ):
        with pytest.raises(WrongType, match="must be of type"):
            change()
    assert pars.to_dict() == before


def test_types_are_not_checked_where_that_is_switched_off():
    class Unchecked(ParsToy):
        _enforce_type_checks = False

    assert Unchecked(threshold="high").threshold == "high"


# ---------------------------------------------------------------------------------------------------- names


def test_an_unknown_name_is_refused_with_the_nearest_one():
    assert issubclass(UnknownParameter, AttributeError)
    pars = ParsToy()
    for ask in (
        lambda: setattr(pars, "treshold", 3.0),
        lambda: pars.treshold,
        lambda: pars["treshold"],
        lambda: pars.read({"treshold": 3.0}),
        lambda: pars.update({"treshold": 3.0}),
        lambda: ParsToy(treshold=3.0),
        lambda: Toy(treshold=3.0),
    ):
        with pytest.raises(UnknownParameter, match="ParsToy has no parameter 'treshold'; did you mean 'threshold'"):
            ask()
    assert "treshold" not in pars
    assert pars == ParsToy()


def test_a_name_that_resembles_none_is_answered_by_all_that_there_are():
    with pytest.raises(UnknownParameter, match=r"'zzzz'; known are anything, bands, cfg_file, .*, vc, verbose"):
        ParsToy(zzzz=1)


def test_a_prefix_is_no_name():
    """The published package set verbose by verbos=3."""
    with pytest.raises(UnknownParameter, match="'verbos'; did you mean 'verbose'"):
        ParsToy(verbos=3)


@pytest.mark.parametrize("name", ["vc", "VC", "version_control", "Version_Control"])
def test_an_alias_is_the_parameter_in_any_case(name):
    pars = ParsToy(**{name: True})
    assert pars.version_control is pars.vc is pars[name] is getattr(pars, name) is True
    setattr(pars, name, False)
    assert pars.version_control is False
    assert name in pars
    assert "vc" not in pars.to_dict()


def test_an_alias_of_nothing_is_refused():
    with pytest.raises(UnknownParameter, match="no parameter 'tresholds'"):
        ParsToy().add_alias("limits", "tresholds")


def test_case_counts_where_that_is_wanted():
    class Strict(ParsToy):
        _ignore_case = False

    assert Strict(threshold=3).threshold == 3
    with pytest.raises(UnknownParameter, match="'Threshold'; did you mean 'threshold'"):
        Strict(Threshold=3)


def test_shorthands_are_allowed_only_where_that_is_wanted():
    assert Loose(thresh=3, verb=2).threshold == 3.0
    assert Loose().vers is False
    assert "thr" in Loose()
    assert "thr" not in ParsToy()
    with pytest.raises(UnknownParameter):
        ParsToy(thresh=3)


def test_a_shorthand_of_several_is_refused_with_all_of_them():
    with pytest.raises(ValueError, match=r"'num' may mean any of \['num_injections', 'num_kernels'\]") as failure:
        Loose(num=3)
    assert isinstance(failure.value, ConfigError)
    with pytest.raises(ValueError, match="may mean any of"):
        _ = Loose().ver  # verbose, version_control


def test_several_names_of_one_parameter_are_not_ambiguous():
    class Named(Loose):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.add_alias("kernel_size", "threshold")
            self.add_alias("kernel_count", "threshold")

    assert Named(kernel=3).threshold == 3.0


def test_a_whole_name_wins_over_longer_ones():
    class Nested(Loose):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.num = self.add_par("num", 0, int, "number")

    assert (Nested(NUM=3).num, Nested(NUM=3).num_injections) == (3, 1)


def test_names_that_differ_by_case_alone():
    class Cases(Parameters):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.gain = self.add_par("gain", 1.0, float, "gain")
            self.GAIN = self.add_par("GAIN", 2.0, float, "another")

    pars = Cases(GAIN=5.0)
    assert (pars.gain, pars.GAIN) == (1.0, 5.0)
    with pytest.raises(ValueError, match=r"\['GAIN', 'gain'\]"):
        _ = pars.Gain


def test_underscores_count_but_where_they_are_removed():
    class Plain(ParsToy):
        _remove_underscores = True

    assert Plain(numInjections=3).num_injections == 3
    assert Plain().Num__Kernels is None
    with pytest.raises(UnknownParameter, match="did you mean 'num_injections'"):
        ParsToy(numinjections=3)


@given(st.text(max_size=12))
@example("Threshold")
@example("")
def test_any_name_is_a_parameter_or_is_refused(name):
    assume(not hasattr(Parameters, name) and not name.startswith("_"))  # of Python and of the class itself
    pars = ParsToy()
    if name in pars:
        assert name.lower() in {*pars.to_dict(), "password", "vc", "limit", "snr_limit"}
    else:
        with pytest.raises(AttributeError):
            getattr(pars, name)


# -------------------------------------------------------------------------------- reading, merging, comparing


def test_read_overwrites_and_update_merges():
    pars = ParsToy()
    pars.read({"reducer": {"radius": 3}, "bands": {"r"}, "limit": 6})
    assert (pars.reducer, pars.bands, pars.threshold) == ({"radius": 3}, {"r"}, 6.0)
    pars.update({"reducer": {"gap": 60}, "bands": {"i"}, "threshold": 7})
    assert (pars.reducer, pars.bands, pars.threshold) == ({"radius": 3, "gap": 60}, {"r", "i"}, 7.0)


def test_what_is_given_is_not_shared():
    given = {"gap": 10}
    pars = ParsToy(reducer=given)
    pars.reducer["gap"] = 99
    pars.update({"reducer": given})
    pars.read({"reducer": given})
    pars.reducer["radius"] = 1
    assert given == {"gap": 10}
    assert ParsToy().reducer == {"gap": 40}


def test_a_mutable_default_is_not_shared():
    default = {"gap": 1}

    class Shared(Parameters):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.reducer = self.add_par("reducer", default, dict, "arguments")

    first, second = Shared(), Shared()
    first.reducer["gap"] = 2
    assert (second.reducer, default, Shared().reducer) == ({"gap": 1}, {"gap": 1}, {"gap": 1})


@pytest.mark.parametrize("duplicate", [ParsToy.copy, copy.deepcopy, lambda pars: pickle.loads(pickle.dumps(pars))])  # noqa: S301
def test_a_copy_is_equal_and_shares_nothing(duplicate):
    pars = ParsToy(threshold=7, password=PASSWORD)
    other = duplicate(pars)
    assert other == pars
    assert other.password == PASSWORD
    other.reducer["gap"] = 1
    other.threshold = 1.0
    assert (pars.reducer, pars.threshold) == ({"gap": 40}, 7.0)
    with pytest.raises(UnknownParameter):
        other.treshold = 2


def test_compare_tells_what_differs():
    ours, theirs = ParsToy(threshold=7, num_kernels=3), ParsToy(threshold=8)
    assert ours.compare(theirs) == {"threshold": (7.0, 8.0), "num_kernels": (3, None)}
    assert ours.compare(theirs, critical=True) == {"threshold": (7.0, 8.0)}
    assert ours.compare(theirs, ignore=["threshold", "num_kernels"]) == {}
    assert ours != theirs
    assert ours != "ours"
    assert ParsToy(threshold=7) == ParsToy(limit=7.0)
    assert Loose() != ParsToy()


def test_the_dictionary_of_all_parameters():
    pars = ParsToy(threshold=7, project="p")
    found = pars.to_dict()
    assert found == {
        "cfg_file": None,
        "cfg_key": None,
        "project": "p",
        "verbose": 0,
        "data_types": ["photometry"],
        "threshold": 7.0,
        "num_injections": 1,
        "num_kernels": None,
        "version_control": False,
        "reducer": {"gap": 40},
        "bands": {"g"},
        "anything": 3,
    }
    uncritical = {"cfg_file", "cfg_key", "project", "verbose", "num_kernels"}
    assert set(pars.to_dict(critical=True)) == set(found) - uncritical
    assert all(name.startswith("_") for name in set(pars.to_dict(hidden=True)) - set(found))
    found["reducer"]["gap"] = 1
    assert pars.reducer == {"gap": 40}


def test_the_description_lists_name_type_unit_default_and_help():
    text = ParsToy(threshold=7).describe()
    lines = {line.split()[0]: line.split() for line in text.splitlines()}
    begin = text.splitlines()[0].index("help")
    assert lines["name"] == ["name", "type", "unit", "value", "default", "help"]
    assert lines["threshold"] == ["threshold", "float", "sigma", "7.0", "5.0", "least", "S/N", "of", "an", "event"]
    assert lines["num_kernels"] == ["num_kernels", "None", "or", "int", "None", "None", "kernels"]
    assert lines["version_control"] == ["version_control", "bool", "False", "False", "folders", "by", "hash"]
    assert lines["anything"] == ["anything", "any", "3", "3"]
    assert len(lines) == 1 + 5 + 8
    assert all(line[begin - 2 : begin] == "  " for line in text.splitlines())  # columns stand below each other
    assert ParsToy().show_pars() == ParsToy().describe()


# ------------------------------------------------------------------------------------- subclasses as in the guide


class ParsAnalysis(ParsToy):
    """Stands for the parameters of an analysis."""


class ParsMyAnalysis(ParsAnalysis):
    """Parameters for MyAnalysis class, as people write them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # unlock this object to allow new add_par calls
        self._enforce_no_new_attrs = False
        self.num_bins = self.add_par("num_bins", 10, int, "number of bins")
        # re-lock this object so users cannot set attributes not already defined
        self._enforce_no_new_attrs = True


class NewAnalysis(Toy):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pars = ParsMyAnalysis(**kwargs)


def test_a_subclass_has_parameters_of_its_own(here):
    analysis = NewAnalysis(num_bins=20, threshold=8.5)
    assert (analysis.pars.num_bins, analysis.pars.threshold) == (20, 8.5)
    assert NewAnalysis().pars.num_bins == 10
    with pytest.raises(UnknownParameter, match="'num_bin'; did you mean 'num_bins'"):
        NewAnalysis(num_bin=20)
    with pytest.raises(UnknownParameter, match="did you mean 'num_bins'"):
        analysis.pars.num_bin = 3
    write(here / "configs/toy.yaml", "project:\n  num_bins: 30\n")
    assert NewAnalysis(project="toy").pars.num_bins == 30
    assert NewAnalysis(project="toy", num_bins=40).pars.num_bins == 40


def test_a_subclass_gives_another_default():
    class Deep(ParsToy):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.set_default("threshold", 9.0)

    assert Deep().threshold == 9.0
    assert Deep(threshold=2).threshold == 2.0
    assert "9.0" in Deep(threshold=2).describe()
    assert ParsToy().threshold == 5.0


# ---------------------------------------------------------------------------------------------------- files


def test_the_file_of_a_project_is_found_in_any_case(here):
    write(here / "configs/My_Project.YAML", "project:\n  threshold: 6\n")
    for name in ("my_project", "MY_PROJECT"):
        assert ParsToy(project=name).threshold == 6.0
    assert ParsToy(project="other").threshold == 5.0
    assert ParsToy().threshold == 5.0


@pytest.mark.parametrize("name", ["toy", "toy.yaml", "toy.yml", "toy.cfg", "configs/toy.yaml", "configs/TOY.cfg"])
def test_a_file_here_or_in_configs_with_any_of_the_suffixes(here, name):
    path = write(here / name, "project:\n  threshold: 6\n")
    assert ParsToy(project="toy").threshold == 6.0
    assert ParsToy(cfg_file=path.name).threshold == 6.0
    assert ParsToy(cfg_file=str(path)).threshold == 6.0
    assert ParsToy(cfg_file="toy").threshold == 6.0


def test_arguments_win_over_the_file_whatever_they_are_called(here):
    write(here / "configs/toy.yaml", "project:\n  threshold: 6\n  vc: true\n  reducer: {radius: 3}\n")
    pars = ParsToy(project="toy", snr_limit=7, version_control=False)
    assert (pars.threshold, pars.version_control, pars.reducer) == (7.0, False, {"radius": 3})


@pytest.mark.parametrize("cfg_file", [None, False])
def test_no_file_is_read_where_none_is_wanted(here, cfg_file):
    write(here / "configs/toy.yaml", "project:\n  threshold: 6\n")
    pars = ParsToy(project="toy", cfg_file=cfg_file)
    assert pars.threshold == 5.0
    assert pars.cfg_file is False  # as its parts are told
    assert ParsToy(project="toy").cfg_file is None
    assert ParsToy(project="toy", cfg_file=pars.cfg_file).threshold == 5.0


@pytest.mark.parametrize("name", ["missing.yaml", "missing", "configs/missing.yaml", "/nowhere/missing.yaml"])
def test_a_file_that_was_asked_for_must_be_there(here, name):
    write(here / "configs/toy.yaml", "project:\n  threshold: 6\n")
    with pytest.raises(ConfigError, match=r"missing.*: no such file"):
        ParsToy(project="toy", cfg_file=name)


def test_values_of_one_object_never_reach_the_next_one(here):
    """The published package kept the file in memory and wrote arguments into it."""
    write(here / "configs/toy.yaml", "project:\n  reducer: {gap: 60}\n  bands: !!set {r}\n")
    first = ParsToy(project="toy", threshold=9, reducer={"gap": 1})
    first.reducer["radius"] = 3
    first.bands.add("u")
    second = ParsToy(project="toy")
    assert (second.threshold, second.reducer, second.bands) == (5.0, {"gap": 60}, {"r"})
    second.reducer["gap"] = 2
    assert ParsToy(project="toy").reducer == {"gap": 60}
    write(here / "configs/toy.yaml", "project:\n  reducer: {gap: 70}\n")
    assert ParsToy(project="toy").reducer == {"gap": 70}


def test_another_key_of_the_file(here):
    path = write(here / "two.yaml", "project: {threshold: 6}\nanalysis: {threshold: 7}\nmine: {threshold: 8}\n")
    with pytest.raises(ConfigError, match="unknown section 'mine'"):
        ParsToy(cfg_file=str(path))
    assert ParsToy(cfg_file=str(path), cfg_key="mine").threshold == 8.0
    path.write_text("project: {threshold: 6}\nanalysis: {threshold: 7}\n")
    assert ParsToy(cfg_file=str(path), cfg_key="analysis").threshold == 7.0
    assert ParsToy(cfg_file=str(path), cfg_key="absent").threshold == 5.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("analyis: {threshold: 6}\n", "unknown section 'analyis'; did you mean 'analysis'"),
        ("qqq: {}\n", "unknown section 'qqq'; known are project, catalog"),
        ("project: [threshold]\n", "project: expected keys and values, found list"),
        ("project: {treshold: 6}\n", "did you mean 'threshold'"),
        ("project: {threshold: high}\n", "'threshold' must be of type float, found 'high'"),
        ("- project\n", "expected keys and values, found list"),
        ("project: {a: [\n", "not YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(here, text, words):
    path = write(here / "configs/toy.yaml", text)
    with pytest.raises(ConfigError) as failure:
        ParsToy(project="toy")
    assert words in str(failure.value)
    if "threshold" not in words:
        assert path.name in str(failure.value)


def test_an_empty_section_is_none(here):
    write(here / "configs/toy.yaml", "project:\nanalysis: {num_kernels: 3}\n")
    assert ParsToy(project="toy").to_dict() == {**ParsToy().to_dict(), "project": "toy"}


def test_sections_are_read_by_name(here):
    path = write(here / "configs/toy.yaml", "project: {a: 1}\nfinder: {b: 2}\n")
    assert find_file(True, "TOY") == Path("configs/toy.yaml")
    assert find_file(True, None) is None
    assert find_file(str(path), None) == path
    assert read_section(True, "toy", "finder") == {"b": 2}
    assert read_section(True, "nobody", "finder") == {}


# -------------------------------------------------------------------------------------------------- secrets


class ParsSecret(ParsToy):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token = self.add_par("token", PASSWORD, str, "has a default", secret=True)
        self.credentials = self.add_par("credentials", {}, dict, "username and password", secret=True)


def test_a_secret_is_in_nothing_that_is_written(here):
    pars = ParsSecret(password=PASSWORD, credentials={"password": PASSWORD})
    assert pars.password == pars.token == pars.credentials["password"] == PASSWORD
    shown = [
        repr(pars),
        str(pars),
        pars.describe(),
        repr(pars.to_dict()),
        repr(pars.to_dict(hidden=True)),
        repr(pars.compare(ParsSecret(password="other"))),
    ]
    assert not [text for text in shown if PASSWORD in text]
    assert "(secret)" in pars.describe()


@pytest.mark.parametrize(
    "given",
    [
        {"credentials": PASSWORD},
        {"CREDENTIALS": [PASSWORD]},
        {"password": {"password": PASSWORD}},
        {"pasword": PASSWORD},
        {"password": PASSWORD, "treshold": 3},
        {"password": PASSWORD, "threshold": "x"},
    ],
)
def test_a_secret_is_in_no_error(here, given):
    with pytest.raises(ConfigError) as failure:
        ParsSecret(**given)
    assert PASSWORD not in str(failure.value)
    write(here / "configs/toy.yaml", f"project: {given}\n")
    with pytest.raises(ConfigError) as failure:
        ParsSecret(project="toy")
    assert PASSWORD not in str(failure.value)


# ----------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("test", "TEST"),
        ("  my project ", "MY_PROJECT"),
        ("a-b", "A_B"),
        ("_x1", "_X1"),
        ("ZTF", "ZTF"),
        ("a\tb", "A_B"),
    ],
)
def test_names_of_folders(name, legal):
    assert legalize(name) == legal
    assert legalize(legal) == legal


@pytest.mark.parametrize("name", ["", " ", "1st", "a.b", "a/b", "..", "größe", "a\nb/../c", "x!"])
def test_what_cannot_be_a_folder_is_refused(name):
    with pytest.raises(ValueError, match="cannot be a name") as failure:
        legalize(name)
    assert isinstance(failure.value, ConfigError)
