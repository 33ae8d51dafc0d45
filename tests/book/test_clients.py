"""Recorded and drawn streams, by the same measures."""

import numpy as np
import pytest

from sitebook import clients
from sitetrace.workload.spec import draw_traffic, fit_traffic
from sitetrace.workload.streams import replay


@pytest.fixture(scope="module")
def hours():
    return clients.recorded_hours("testbed", 1)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    (recording,) = clients.client_recordings("testbed", tmp_path_factory.mktemp("clients"))
    return recording


def dispersion(table):
    return clients.dispersion(table["arrival_s"].to_numpy())


def test_a_stream_of_the_fitted_family_is_found_again_at_all_windows(hours):
    table = hours["known law"]
    span_s = np.ptp(table["arrival_s"])
    for scale_s in (None, 60.0):
        law = fit_traffic(table, scale_s=scale_s)
        drawn = [dispersion(draw_traffic(law, span_s, seed)) for seed in range(3)]
        np.testing.assert_allclose(np.median(drawn, axis=0), dispersion(table), rtol=0.45)
    assert clients.gap_variation(table["arrival_s"].to_numpy()) == pytest.approx(2.5, rel=0.05)


def test_thinning_brings_the_index_of_dispersion_towards_one(hours):
    for table in hours.values():
        rngs = np.random.default_rng(1).spawn(3)
        thinned = np.mean([dispersion(replay(table, 0.25, 1.0, rng)) for rng in rngs], axis=0)
        wanted = 1 + 0.25 * (dispersion(table) - 1)
        np.testing.assert_allclose(thinned[:6], wanted[:6], rtol=0.15)


def test_one_number_does_not_hold_a_rate_that_takes_turns(hours):
    table = hours["rate in turns"]
    recorded, span_s = dispersion(table), np.ptp(table["arrival_s"])
    drawn = {
        scale_s: dispersion(draw_traffic(fit_traffic(table, scale_s=scale_s), span_s, 1))
        for scale_s in (None, 60.0)
    }
    assert drawn[None][60.0] < 0.2 * recorded[60.0]
    assert drawn[60.0][1.0] > 3 * recorded[1.0]


def test_known_clients_are_drawn_as_they_were_written(three):
    laws = clients.fitted_laws(three)
    assert laws["requests_pct"].sum() == pytest.approx(100)
    np.testing.assert_allclose(laws[["rate_reproduced_pct", "cv_reproduced_pct"]], 100)
    assert clients.without_lengths(three)[0] == 1
    days = clients.over_days(three, 4.0, 2, 1)
    assert days["generated"].mean() == pytest.approx(4.0, rel=0.02)
    assert (days["generated"] - days["recorded"]).std() < 0.2
    assert days["recorded"].isna().sum() == 2 * 2
    for side in ("input", "output"):
        np.testing.assert_allclose(days[f"{side}_generated"], days[f"{side}_recorded"], rtol=0.05)


def test_slowed_clients_stay_more_bunched_than_thinned_ones(three):
    hours = clients.scaled_or_thinned(three, 4.0, 12.0, 1)
    found = {kind: clients.dispersion(arrival_s).loc[:30.0] for kind, arrival_s in hours.items()}
    assert (found["thinned"] < found["each client slowed"]).all()
    assert (found["thinned"] < found["recorded"]).all()
