"""Every number of the paper has a name; a result that answers it takes the number from there."""

from fnmatch import fnmatch

import pytest
from pandas.api.types import is_numeric_dtype

from sitebook.old.ledger.claims import claim, claims
from sitebook.old.ledger.records import record
from sitetrace.core.files import InputError, read_json
from sitetrace.core.registry import data_dir, read_paper_table

LISTING = read_json(data_dir() / "paper" / "claims.json")
ENERGY = "fidelity_by_configuration:llama-3-70b_H100_tp4:delta_energy_pct_median"


def test_a_claim_is_a_cell_of_a_table_of_the_paper():
    table = read_paper_table("fidelity_by_configuration").set_index("config")
    assert claim(ENERGY)["value"] == table.loc["llama-3-70b_H100_tp4", "delta_energy_pct_median"]


def test_a_name_stands_for_one_number():
    assert claims().index.is_unique


@pytest.mark.parametrize(
    "table", sorted(file.stem for file in (data_dir() / "paper").glob("*.csv"))
)
def test_every_number_of_a_table_is_a_claim_a_key_or_an_input(table):
    columns = read_paper_table(table)
    entries = [entry for entry in LISTING["tables"] if entry["table"] == table]
    told = [name for entry in entries for name in (*entry["key"], *entry["columns"])]
    patterns = told + LISTING["inputs"].get(table, [])
    numbers = [name for name in columns if is_numeric_dtype(columns[name])]
    assert [n for n in numbers if not any(fnmatch(n, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fidelity_ar1:gpt-oss-20b_A100_tp1:acf_r2", -0.038),
        ("march_fidelity:trace_fidelity_table/llama-8b:energy_signed_pct", -0.1),
        ("march_fidelity:node_level_summary/gpt-oss-20b:energy_signed_pct", 18.64),
        ("decomposition:llama-3-70b_H100_tp4/marginal:acf_r2_noprune", -4.50),
        ("surrogate_validity:llama-3-70b_H100_tp4:rmse", 24.18),
        ("node_baselines:pooled/tdp:delta_energy_pct", 243.60),
        ("facility:B/splitwise/900:ramp_down_kw", -12.28),
        ("facility_constants:A/mean:power_kw", 529.22),
        ("sizing:transformer/splitwise_b_prime:value", 0.7429),
        ("interconnection:energy_year:value", 5166.21),
        ("hierarchy:rack:cov", 0.1751),
        ("cov_by_servers:240:cov_theory", 0.0409),
        ("cov_fit:slope:value", -0.1476),
        ("par_by_resolution:900:peak_kw", 715.45),
        ("synthetic_site:ours:ramp_down_kw", -14.74),
        ("oversubscription:ours:racks", 57),
        ("feature_sufficiency:F2:relative_high", 1.645),
        ("conditional_information:deepseek-r1-distill-70b_H100_tp4/F2:information_share", 0.196),
        ("settings:pue:value", 1.3),
        ("headline:energy_below_5pct_configs:value", 22),
    ],
)
def test_a_number_is_found_by_its_name(name, value):
    assert claim(name)["value"] == value


@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("fidelity_ar1:gpt-oss-20b_A100_tp1:delta_energy_pct", 0.005),
        ("facility:A/ours/60:peak_kw", 0.005),
        ("oversubscription:ours:racks", 0),
        ("settings:pue:value", 0),
    ],
)
def test_a_number_is_known_to_its_last_printed_digit(name, rounding):
    assert claim(name)["rounding"] == pytest.approx(rounding)


def test_what_is_no_result_of_the_paper_is_a_setting():
    table = claims()
    assert set(table["kind"]) == {"result", "setting"}
    assert set(table.loc[table["table"] == "settings", "kind"]) == {"setting"}


def test_units_are_words_or_nothing():
    assert claims()["unit"].map(type).eq(str).all()
    assert claims()["what"].str.len().gt(0).all()


def test_sides_and_chapters_are_known_words():
    table = claims()
    assert set(table["better"].dropna()) <= {"lower", "higher"}
    assert table["chapter"].str.fullmatch(r"[a-z0-9-]+").all()
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
