"""Names of observations that a user may not see are removed from whatever the database holds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from obsarchive.names import observations_in, replace_observations
from obsarchive.store.foreign_names import LABEL, texts_naming, without_names

OWN = "3_HD_140283_VIC_lp600_o_20160925_030000.000000"
FOREIGN = "4.1_351_Yrsa+B_VIC_Si_o_20160925_030222.200000"
AROUND = st.sampled_from(["{}", "psflib/{}.png", "OSError: {}_0.fits.bz2 is cut", "with {}, {}", "({})", "a {}\n"])
TEXTS = st.builds(lambda around, name: around.replace("{}", name), AROUND, st.sampled_from([OWN, FOREIGN, "Vega"]))
VALUES = st.recursive(
    TEXTS | st.integers() | st.floats() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=25,
)


def masked(value: Any) -> Any:
    return without_names(value, texts_naming(value), {OWN})


@given(VALUES)
def test_no_name_is_left(value: Any) -> None:
    assert FOREIGN not in str(masked(value))
    if FOREIGN not in str(value):
        assert masked(value) is value


def test_references_keep_their_number_and_rows_of_others_go() -> None:
    value = {
        "references": [OWN, FOREIGN],
        "curve": [[0.1, 2.0], [0.2, 3.0]],
        "products": [{"name": f"psflib/{FOREIGN}.png"}, {"name": f"psflib/{OWN}.png"}],
        "stars": {FOREIGN: 1, OWN: 2},
        "message": f"{FOREIGN}.fits is cut",
    }
    assert masked(value) == {
        "references": [OWN, LABEL],
        "curve": [[0.1, 2.0], [0.2, 3.0]],
        "products": [{"name": f"psflib/{OWN}.png"}],
        "stars": {OWN: 2},
        "message": f"{LABEL}.fits is cut",
    }


def test_names_are_found_within_texts() -> None:
    text = f"/raw/{OWN}_0.fits.bz2 and ({FOREIGN}), not 3_20160925_030000.000000"
    assert observations_in(text) == [OWN, FOREIGN]
    assert replace_observations(text, lambda _: "x") == "/raw/x_0.fits.bz2 and (x), not 3_20160925_030000.000000"
    assert observations_in(f"_{OWN}") == [OWN]
    assert observations_in("") == []
