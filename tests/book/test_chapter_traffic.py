"""The chapter traffic: the same measures on recorded and drawn streams, and what they must show."""

import numpy as np
import pytest

from sitebook.old.chapters import traffic
from sitebook.old.sites import many_clients


@pytest.fixture(scope="module")
def drawn():
    tables = traffic.recordings("testbed", 1)
    return {name: traffic.drawn_like(table, 0.25, 3, 1) for name, table in tables.items()}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    (recording,) = many_clients.client_recordings("testbed", tmp_path_factory.mktemp("clients"))
    return recording


def test_a_stream_of_the_fitted_family_is_found_again_at_all_windows(drawn):
    kinds = drawn["known law"]
    recorded = traffic.dispersion(kinds[traffic.RECORDED])[0]
    for kind in (traffic.BY_GAPS, traffic.BY_COUNTS):
        fitted = np.median(traffic.dispersion(kinds[kind]), axis=0)
        np.testing.assert_allclose(fitted, recorded, rtol=0.45)
    table = traffic.compare(kinds).set_index("stream")
    assert table.loc[traffic.BY_GAPS, ["input_ks", "output_ks"]].max() < 0.04
    correlation = table["rank_correlation"]
    assert correlation[traffic.BY_GAPS] == pytest.approx(correlation[traffic.RECORDED], abs=0.04)


def test_thinning_brings_the_index_of_dispersion_towards_one(drawn):
    for kinds in drawn.values():
        recorded = traffic.dispersion(kinds[traffic.RECORDED])[0]
        thinned = traffic.dispersion(kinds[traffic.THINNED]).mean(axis=0)
        np.testing.assert_allclose(thinned[:6], 1 + 0.25 * (recorded - 1)[:6], rtol=0.15)


def test_one_number_does_not_hold_a_rate_that_takes_turns(drawn):
    table = traffic.compare(drawn["rate in turns"]).set_index("stream")
    minute, second = table["dispersion_60_s"], table["dispersion_1_s"]
    assert minute[traffic.BY_GAPS] < 0.2 * minute[traffic.RECORDED]
    assert second[traffic.BY_COUNTS] > 3 * second[traffic.RECORDED]
    said = traffic.conclusion({"rate in turns": table.reset_index()})
    assert "fitted to gaps misses it, the law fitted to counts holds it" in said


def test_known_clients_are_drawn_as_they_were_written(three):
    laws = many_clients.fitted_laws(three)
    assert laws["requests_pct"].sum() == pytest.approx(100)
    np.testing.assert_allclose(laws[["rate_reproduced_pct", "cv_reproduced_pct"]], 100)
    assert many_clients.without_lengths(three)[0] == 1
    days = many_clients.over_days(three, 4.0, 2, 1)
    assert days["generated"].mean() == pytest.approx(4.0, rel=0.02)
    assert (days["generated"] - days["recorded"]).std() < 0.2
    assert days["recorded"].isna().sum() == 2 * 2
    for side in ("input", "output"):
        np.testing.assert_allclose(days[f"{side}_generated"], days[f"{side}_recorded"], rtol=0.05)


def test_slowed_clients_stay_more_bunched_than_thinned_ones(three):
    table = many_clients.scaled_or_thinned(three, 4.0, 12.0, traffic.SCALES_S, 1)
    short = table.loc[:30.0]
    assert (short["thinned"] < short["each client slowed"]).all()
    assert (short["thinned"] < short["as recorded"]).all()


def test_records_say_where_they_come_from_and_that_the_papers_day_is_missing(drawn, three):
    tables = {"known law": traffic.compare(drawn["known law"])}
    weeks = {three.name: many_clients.over_days(three, 4.0, 1, 1)}
    given = (tables, weeks, many_clients.fitted_laws(three), {three.name: (1, 0.35)})
    rows = traffic.found(*given, "testbed")
    assert {row["data"] for row in rows} == {"testbed"}
    assert all(row["value"] is not None for row in rows)
    (missing,) = (row for row in traffic.found(*given, "measured") if row["value"] is None)
    assert "paper's day" in missing["name"] and missing["dataset"] == "Azure 2024-05-16"


def test_azures_and_servegens_recordings_are_read_and_drawn(measured):
    tables = traffic.recordings("measured", 1)
    assert [len(table) for table in tables.values()] == [8819, 19366]
    shares = {}
    for recording in many_clients.client_recordings("measured", measured):
        shares[recording.name] = many_clients.without_lengths(recording)
        laws = many_clients.fitted_laws(recording).set_index("law")
        assert laws.loc["Gamma", "cv_reproduced_pct"] > 99.9 > laws.loc["Weibull"].iloc[-1]
    days = many_clients.over_days(recording, 4.0, 1, 1)
    assert days["generated"].sum() == pytest.approx(days["recorded"].sum(), rel=0.02)
    assert shares["m-small"][0] == 5 and 0.5 < shares["m-small"][1] < 0.6
    assert shares["deepseek-r1"] == (0, 0.0)
