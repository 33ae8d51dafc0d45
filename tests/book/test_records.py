"""A verdict follows one rule, and records survive their file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitebook.old.ledger.records import compare, read_records, record, verdict, write_records
from sitetrace.core.files import InputError

numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("value", "interval", "paper", "better", "same_kind", "expected"),
    [
        (3.0, (2.0, 4.0), 3.5, "lower", True, "reproduced"),
        (3.0, (2.0, 4.0), 3.5, "lower", False, "reproduced on other data"),
        (3.0, (2.0, 4.0), 9.0, "lower", True, "reproduced"),
        (3.0, (2.0, 4.0), 1.0, "lower", True, "not reproduced"),
        (0.9, (0.8, 0.95), 0.7, "higher", True, "reproduced"),
        (0.9, (0.8, 0.95), 0.97, "higher", False, "not reproduced"),
        (10.0, (9.0, 11.0), 12.0, None, True, "not reproduced"),
        (10.0, None, 10.0, None, True, "reproduced"),
        (None, None, 10.0, "lower", True, "cannot be tested"),
        (10.0, (9.0, 11.0), None, "lower", True, "cannot be tested"),
    ],
)
def test_verdict_by_the_rule(value, interval, paper, better, same_kind, expected):
    assert verdict(value, interval, paper, better, same_kind) == expected


@given(numbers, numbers, numbers, st.sampled_from([None, "lower", "higher"]))
def test_an_interval_that_includes_the_paper_always_reproduces_it(a, b, paper, better):
    low, high = min(a, b, paper), max(a, b, paper)
    assert verdict(paper, (low, high), paper, better, True) == "reproduced"


@given(numbers, st.floats(0, 1e3), numbers, st.floats(0, 1e3))
def test_a_better_result_never_gets_a_worse_verdict(value, width, paper, gain):
    def lower(v):
        return verdict(v, (v - width, v), paper, "lower", True)

    assert lower(value) != "reproduced" or lower(value - gain) == "reproduced"


def test_an_unknown_side_is_refused():
    with pytest.raises(InputError, match="better='smaller'"):
        verdict(1.0, None, 1.0, "smaller", True)


def test_nothing_found_on_the_testbed_tests_a_claim_about_hardware():
    row = record(
        "energy error", 1.0, "%", data="testbed", dataset="bursty", paper=5.0, better="lower"
    )
    assert row["verdict"] == "cannot be tested"
    assert row["value"] == 1.0


def test_without_a_number_of_the_paper_there_is_no_verdict():
    assert record("gaps", 3, "", data="measured", dataset="a")["verdict"] is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"value": float("nan")}, "not finite"),
        ({"interval": (2.0, 1.0)}, "lower end first"),
        ({"interval": (2.0, 3.0)}, "does not hold"),
        ({"data": "measurd"}, "say one of measured, testbed, paper"),
    ],
)
def test_a_wrong_row_is_refused_by_name(bad, message):
    row = {"value": 1.0, "unit": "W", "data": "measured", "dataset": "a"} | bad
    with pytest.raises(InputError, match=message) as refusal:
        record("idle", **row)
    assert "'idle'" in str(refusal.value)


def sample_rows():
    return [
        record("idle", 61.23456789, "W", data="measured", dataset="a", interval=(60, 63)),
        record("idle", 62, "W", data="measured", dataset="b", paper=60, better="lower"),
    ]


def test_records_survive_their_file_to_six_digits(tmp_path):
    write_records(sample_rows(), tmp_path / "page.json")
    rows = read_records(tmp_path / "page.json")
    assert rows == sample_rows()
    assert rows[0]["value"] == 61.2346


def test_records_go_where_the_build_says_and_nowhere_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("SITETRACE_RECORDS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert write_records(sample_rows()) == sample_rows()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("SITETRACE_RECORDS", str(tmp_path / "page.json"))
    write_records(sample_rows())
    assert read_records(tmp_path / "page.json") == sample_rows()


def test_a_name_stands_once_for_a_dataset():
    with pytest.raises(InputError, match="idle of a stands twice"):
        write_records([sample_rows()[0]] * 2)


@pytest.mark.parametrize("text", ["", "[{]", "{}", '[{"name": 1}]', "[1]"])
def test_a_damaged_file_of_records_is_named(tmp_path, text):
    path = tmp_path / "page.json"
    path.write_text(text)
    with pytest.raises(InputError, match="page.json"):
        read_records(path)


def test_comparing_names_what_changed():
    old, new = sample_rows(), json.loads(json.dumps(sample_rows()))
    assert compare(old, new, 1e-3) == []
    new[0]["value"] *= 1.0005
    assert compare(old, new, 1e-3) == []
    new[0]["value"] = 70.0
    new[1]["dataset"] = "c"
    assert compare(old, new, 1e-3) == [
        "idle of a: value was 61.2346, is 70.0",
        "idle of b: only in the old",
        "idle of c: only in the new",
    ]
