"""A law of traffic is found again in what it drew; Azure's recordings are read as they are."""

import json

import numpy as np
import pandas as pd
import pytest

from sitetrace.core.files import InputError
from sitetrace.workload.spec import check_traffic, fit_traffic, index_of_dispersion, open_stream
from sitetrace.workload.table import read_azure, read_requests

LENGTHS = {"input_median": 700.0, "input_sigma": 0.9, "input_limit": 200_000, "correlation": 0.4}
LENGTHS |= {"output_median": 120.0, "output_sigma": 0.7, "output_limit": 100_000}
BURSTY = {"pattern": "bursty", "rate_per_server": 1.0, "cv": 2.0}
DIURNAL = {"pattern": "diurnal", "rate_per_server": 0.5, "swing": 0.4, "peak_hour": 15.0}


def a_table(duration_s, start_hour=0.0, **section):
    stream = open_stream(check_traffic({"lengths": LENGTHS, **section}), 2, ".", start_hour)
    return stream.chunk(0, 0.0, duration_s, np.random.SeedSequence(4), None)[0].table()


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.5])
def test_a_known_law_is_found_again(cv):
    table = a_table(40000.0, **BURSTY | {"cv": cv})
    found = fit_traffic(table)
    assert found["pattern"] == "bursty"
    assert found["rate_per_server"] == pytest.approx(2 * 1.0, rel=0.04)
    assert found["cv"] == pytest.approx(cv, rel=0.05)
    assert fit_traffic(table, scale_s=30.0)["cv"] == pytest.approx(cv, rel=0.12)
    for name in ("input_median", "output_median", "input_sigma", "output_sigma"):
        assert found["lengths"][name] == pytest.approx(LENGTHS[name], rel=0.03)
    assert found["lengths"]["correlation"] == pytest.approx(0.4, abs=0.02)


def test_a_known_day_is_found_again():
    table = a_table(3.5 * 86400, **DIURNAL)
    found = fit_traffic(table)
    assert found["pattern"] == "diurnal"
    assert found["swing"] == pytest.approx(0.4, abs=0.02)
    assert found["peak_hour"] == pytest.approx(15.0, abs=0.3)
    with pytest.raises(InputError, match="scale_s"):  # a day's swing has no burstiness
        fit_traffic(table, scale_s=60.0)


def test_a_slowly_wandering_rate_shows_in_counts_and_not_in_gaps():
    rng = np.random.default_rng(1)
    turns = [rng.exponential(1 / rate, 300) for rate in (1.0, 3.0) * 40]
    arrival_s = np.cumsum(np.concatenate(turns))
    table = pd.DataFrame({"arrival_s": arrival_s, "input_tokens": 5, "output_tokens": 5})
    by_gaps, by_counts = fit_traffic(table)["cv"], fit_traffic(table, scale_s=60.0)["cv"]
    assert by_gaps < 1.4 < 2.5 < by_counts
    assert fit_traffic(table)["lengths"]["correlation"] == 0.0


def test_counts_of_a_poisson_stream_have_their_mean_as_variance():
    arrival_s = np.cumsum(np.random.default_rng(2).exponential(0.1, 100_000))
    assert index_of_dispersion(arrival_s, 4.0) == pytest.approx(1, abs=0.1)
    assert index_of_dispersion(np.arange(1000.0), 10.0) == 0


@pytest.mark.parametrize("scale_s", [1000.0, 0.0, float("nan")])
def test_what_is_too_short_to_fit_gets_one_line(scale_s):
    table = a_table(2000.0, **BURSTY)
    with pytest.raises(InputError, match="scale_s .* 3 fit"):
        fit_traffic(table, scale_s=scale_s)
    with pytest.raises(InputError, match="2 requests are too few to fit"):
        fit_traffic(table.iloc[:2])


OF_2023 = "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
OF_2024 = (
    "2024-05-15 23:59:59.990000+00:00,9,9\n2024-05-16 00:00:01.500000+00:00,20,2\n"
    "2024-05-16 00:00:00.250000+00:00,10,1\n2024-05-16 08:00:00+00:00,5,0\n"
)
HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def test_azures_trace_of_2023_is_read_to_the_microsecond(tmp_path):
    (tmp_path / "code.csv").write_text(HEAD + OF_2023)
    table, (note,) = read_azure(tmp_path / "code.csv")
    assert table["arrival_s"].tolist() == pytest.approx([0, 0.052], abs=1e-9)
    assert table["input_tokens"].tolist() == [4808, 3180]
    assert "second 0 is 2023-11-16T18:17:03.979960+00:00, hour 18.2844 of the day" in note


def test_a_day_of_azures_week_of_2024_is_ingested(tmp_path, call):
    (tmp_path / "week.csv").write_text(HEAD + OF_2024)
    given = ("--azure", tmp_path / "week.csv", "--day", "2024-05-16", "-o", tmp_path / "day.csv")
    code, said, notes = call("ingest", *given)
    assert code == 0 and "wrote 2 requests" in said
    assert "1 requests without tokens are left out" in notes
    table = read_requests(tmp_path / "day.csv")
    assert table["arrival_s"].tolist() == [0, 1.25]
    assert table["output_tokens"].tolist() == [1, 2]
    code, _, said = call("ingest", *given, "--utc-offset", "1")
    assert code == 2 and "--azure: a trace of requests alone: leave --utc-offset" in said


BAD = [
    ("a,b\n1,2\n", None, "no columns TIMESTAMP"),
    (HEAD + OF_2024, "16.5.2024", "no request with tokens on 16.5.2024: .* YYYY-MM-DD"),
    (HEAD + OF_2023 + "yesterday,3,4\n", None, "line 4: no time and two numbers in 'yesterday"),
    (f"{HEAD}2024-05-15 9:00,5,6\n2024-05-16 8:00,5,1.5\n", "2024-05-16", "line 3, output"),
]


@pytest.mark.parametrize(("text", "day", "said"), BAD)
def test_other_files_get_one_line(tmp_path, text, day, said):
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        read_azure(tmp_path / "trace.csv", day)
    assert "\n" not in str(raised.value)


def test_the_peak_of_a_recording_comes_at_the_same_hour_of_a_site(tmp_path, call):
    day = DIURNAL | {"rate_per_server": 0.1, "swing": 0.6}
    table = a_table(2.5 * 86400.0, start_hour=18.0, **day)
    times = pd.Timestamp("2024-05-15 18:00", tz="UTC") + pd.to_timedelta(table["arrival_s"], "s")
    rows = {"TIMESTAMP": times, "ContextTokens": table["input_tokens"]}
    rows = pd.DataFrame(rows | {"GeneratedTokens": table["output_tokens"]})
    rows.to_csv(tmp_path / "azure.csv", index=False)
    read, like = tmp_path / "r.csv", tmp_path / "like.csv"
    _, _, notes = call("ingest", "--azure", tmp_path / "azure.csv", "-o", read)
    assert "hour 18.0" in notes
    given = ("workload", "fitted", "--from", read, "--duration", 4 * 86400, "-o", like)
    code, said, notes = call(*given, "--begin-hour", 18)
    assert code == 0 and "hour 18 of the day" in notes
    section = json.loads(said.splitlines()[0].removeprefix("traffic: "))
    assert section["peak_hour"] == pytest.approx(15.0, abs=0.5)
    assert len(read_requests(like)) == pytest.approx(4 * 86400 * 0.2, rel=0.1)
    # in a site that begins at noon, three hours later; in the stream like it, as in the recording
    site = a_table(4 * 86400.0, 12.0, **{**section, "rate_per_server": 0.1})
    for stream, after_h in ((site, 3.0), (read_requests(like), 21.0)):
        angle = np.angle(np.exp(2j * np.pi * stream["arrival_s"] / 86400).mean())
        assert angle / (2 * np.pi) * 24 % 24 == pytest.approx(after_h, abs=0.5)
