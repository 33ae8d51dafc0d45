"""Every number of the paper has a name; a result that answers it takes the number from there."""

import pytest

from sitetrace.claims import claim, claims
from sitetrace.files import InputError
from sitetrace.paper import read_paper_table
from sitetrace.records import record

ENERGY = "fidelity_by_configuration:llama-3-70b_H100_tp4:delta_energy_pct_median"


def test_a_claim_is_a_cell_of_a_table_of_the_paper():
    table = read_paper_table("fidelity_by_configuration").set_index("config")
    assert claim(ENERGY)["value"] == table.loc["llama-3-70b_H100_tp4", "delta_energy_pct_median"]


def test_a_name_stands_for_one_number():
    assert claims().index.is_unique


def test_sides_and_chapters_are_known_words():
    table = claims()
    assert set(table["better"].dropna()) <= {"lower", "higher"}
    assert table["chapter"].str.fullmatch(r"[a-z-]+").all()
    assert (table["untested"] != "").all()


def test_a_record_takes_the_papers_value_and_side_from_its_claim():
    row = record("energy", 1.0, "%", data="measured", dataset="run", same_kind=True, claim=ENERGY)
    assert row["paper"] == pytest.approx(claim(ENERGY)["value"], rel=1e-5)
    assert row["verdict"] == "reproduced"


def test_a_record_in_another_unit_than_its_claim_is_refused():
    with pytest.raises(InputError, match="unit 'W'"):
        record("energy", 1.0, "W", data="measured", dataset="run", claim=ENERGY)


def test_an_unknown_claim_is_refused_with_some_that_exist():
    with pytest.raises(InputError, match="there are fidelity_by_configuration:"):
        claim("fidelity_by_configuration:nothing:ks")


@pytest.mark.parametrize(("value", "expected"), [(2.33, "follows"), (3.0, "does not follow")])
def test_arithmetic_on_the_papers_own_numbers_is_no_reproduction(value, expected):
    interval = (value - 0.01, value + 0.01)
    row = record("energy", value, "%", data="paper", dataset="t", interval=interval, claim=ENERGY)
    assert row["verdict"] == expected
