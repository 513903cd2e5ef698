"""The decision chain: any text is a rule or a clear error, any document gets an answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obsarchive.errors import ConfigError
from obsarchive.rules import FIELDS, compile_rule

DOCUMENT = {
    "name": "351_Yrsa",
    "filter": "lp600",
    "magnitude": 11.2,
    "exposure_s": 90,
    "science_program": {"program_id": "4", "program_PI": ["asteroids", "moons"]},
    "coordinates": {"dec_deg": -8.1},
    "pipelined": {"bright_star": {"classified_as": "faint"}},
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
numbers = [name for name, kind in FIELDS.items() if kind is float]
texts = [name for name, kind in FIELDS.items() if kind is str]
comparisons = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(numbers), st.sampled_from(["<", ">=", "=="]), st.integers()),
    st.builds("{} {} {!r}".format, st.sampled_from(texts), st.sampled_from(["==", "!="]), st.sampled_from("abc")),
    st.builds("{} {} {!r}".format, st.sampled_from(texts), st.sampled_from(["in", "not in"]), st.just(["a", "b"])),
)
sentences = st.recursive(
    comparisons,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("not ({})".format, inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("True", True),
        ("False", False),
        ("  magnitude < 12\n", True),
        ("magnitude >= 12", False),
        ("exposure_s == 90", True),
        ("coordinates.dec_deg < -8", True),
        ("filter in ['Si', 'lp600']", True),
        ("filter in ('Si', 'Sz')", False),
        ("science_program.program_id not in ['24']", True),
        ("science_program.program_PI == 'moons'", True),
        ("science_program.program_PI == 'planets'", False),
        ("pipelined.bright_star.classified_as == 'faint'", True),
        ("magnitude < 12 and not filter == 'Si' or False", True),
        ("magnitude < 12 and (filter == 'Si' or name == '351_Yrsa')", True),
    ],
)
def test_rules_mean_what_they_say(text, answer):
    assert compile_rule(text)(DOCUMENT) is answer


@pytest.mark.parametrize(
    "comparison", ["magnitude < 99", "magnitude != 3", "camera not in ['x']", "seeing.median_arcsec > 0"]
)
@pytest.mark.parametrize("document", [{}, {"magnitude": None, "camera": None, "seeing": None}, {"seeing": "bad"}])
def test_a_missing_field_makes_its_comparison_false(comparison, document):
    assert compile_rule(comparison)(document) is False
    assert compile_rule(f"not ({comparison})")(document) is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("magnitud < 12", "did you mean 'magnitude'"),
        ("science_program.program_id not in [24]", "text (quote it), 24 is not"),
        ("magnitude < '12'", "magnitude is a number, '12' is not"),
        ("magnitude < True", "a number"),
        ("filter < 'Si'", "no order"),
        ("filter in 'Si'", "needs a list"),
        ("8 < magnitude < 12", "write chained comparisons with 'and'"),
        ("12 > magnitude", "unknown field '12'"),
        ("magnitude < seeing.median_arcsec", "not a literal"),
        ("filter in {['Si']}", "not a literal"),
        ("magnitude", "neither a comparison"),
        ("magnitude is 12", "not allowed"),
        ("__import__('os').system('true')", "neither a comparison"),
        ("filter == open('/etc/passwd')", "not a literal"),
        ("magnitude <", "invalid syntax"),
        ("", "invalid syntax"),
        ("(" * 500 + "magnitude < 1" + ")" * 500, "nested"),
    ],
)
def test_wrong_rules_are_explained(text, words):
    with pytest.raises(ConfigError) as failure:
        compile_rule(text)
    assert words in str(failure.value)
    assert repr(text) in str(failure.value)


@given(st.text() | st.text("{}[]()'\"\\ mn<=>.,:*0 \0\n") | sentences)
@example("name in {{}}")
@example("name == '\\d'")
@example("name == '\ud800'")
@example("not " * 5000 + "True")
def test_any_text_is_a_rule_or_a_config_error(text):
    try:
        rule = compile_rule(text)
    except ConfigError:
        return
    assert rule(DOCUMENT) in (True, False)


@given(
    sentences,
    st.dictionaries(st.sampled_from([name.partition(".")[0] for name in FIELDS]), anything),
)
@example("magnitude < 12", {"magnitude": "11.2"})
@example("filter in ['a', 'b']", {"filter": {"a": 1}})
def test_any_document_gets_an_answer(text, document):
    """People edit documents by hand: a field of the wrong type counts as missing."""
    assert compile_rule(text)(document) in (True, False)
