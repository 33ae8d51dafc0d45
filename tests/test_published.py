"""The paper's configurations make models from published numbers alone, or say why not."""

import json

import numpy as np
import pandas as pd
import pytest

from sitetrace.core.files import InputError
from sitetrace.core.registry import read_paper_table
from sitetrace.power.modelfile import load_model, save_model
from sitetrace.power.published import paper_model
from sitetrace.power.states.transitions import Coupled, Independent, active_distribution
from sitetrace.workload.streams import poisson

CONFIG = "llama-3-70b_H100_tp4"
VARIANTS = {
    "coupled": {},
    "independent": {"states": "independent"},
    "AR(1)": {"states": "independent", "emissions": "ar1"},
    "log-normal TTFT": {"states": "independent", "serving": "log_normal_ttft"},
}
RNG = np.random.default_rng
PUBLISHED = read_paper_table("configurations").set_index("config")
WEIGHT = np.array([0.2, 0.05, 0.5, 0.25])


def bins(active):
    return pd.DataFrame({"active": np.asarray(active, dtype=float), "quiet_for_s": 0.0})


@pytest.mark.parametrize(("mean", "sd"), [(4.1, 5.0), (0.9, 1.3), (3.0, 1.0), (40.0, 50.0)])
def test_states_get_their_weights_when_the_count_follows_the_assumed_distribution(mean, sd):
    counts = np.arange(2000)
    assumed = active_distribution(mean, sd)
    # less spread than Poisson is not to be had from a negative binomial
    moments = (mean, max(sd, np.sqrt(mean)))
    assert (assumed.mean(), assumed.std()) == pytest.approx(moments)
    likely = assumed.pmf(counts)
    shares = Coupled(mean, sd, WEIGHT).matrix(bins(counts))[:, 0, 1:]
    assert shares.sum(axis=1) == pytest.approx(1)
    assert likely @ shares == pytest.approx(WEIGHT, abs=1e-6)


def test_a_busier_server_is_in_a_higher_state():
    shares = Coupled(4.1, 5.0, WEIGHT).matrix(bins(np.arange(500)))[:, 0, 1:]
    below = shares.cumsum(axis=1)
    assert (np.diff(below, axis=0) <= 1e-12).all()
    assert shares[0].argmax() == 0
    assert shares[-1] == pytest.approx([0, 0, 0, 1])


@pytest.mark.parametrize("transitions", [Coupled(4.1, 5.0, WEIGHT), Independent(WEIGHT)])
def test_no_previous_state_matters_and_none_leads_outside_the_mixture(transitions):
    matrix = transitions.matrix(bins([0, 1, 7, 1e6]))
    assert matrix.shape == (4, 5, 5)
    assert (matrix == matrix[:, :1]).all()
    assert (matrix[:, :, 0] == 0).all()
    assert matrix.sum(axis=2) == pytest.approx(1)
    assert (matrix[0] == matrix[2]).all() == isinstance(transitions, Independent)


@pytest.mark.parametrize("config", PUBLISHED.index)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_configuration_generates_and_is_kept_or_says_why_not(config, variant, tmp_path):
    try:
        model = paper_model(config, **VARIANTS[variant])
    except InputError as error:
        assert "take " in str(error)
        return
    rng = RNG(1)
    power_w = model.generate(poisson(1.0, 60.0, rng), rng=rng).power_w
    low, high = model.power_range_w
    assert power_w.min() >= max(low - 0.05 * (high - low), 0)
    assert power_w.max() <= high + 0.05 * (high - low)
    save_model(model, tmp_path / "first.json")
    save_model(load_model(tmp_path / "first.json"), tmp_path / "second.json")
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()


@pytest.mark.parametrize("states", ["coupled", "independent"])
def test_power_over_the_assumed_counts_has_the_mixtures_mean(states):
    model, row, rng = paper_model(CONFIG, states=states), PUBLISHED.loc[CONFIG], RNG(2)
    counts = active_distribution(row["active_mean"], row["active_std"]).rvs(200_000, random_state=3)
    table = bins(counts)
    power_w = model.draw_power(model.draw_states(table, rng.random(len(table))), table, rng)
    assert power_w.mean() == pytest.approx(model.mixture.weight @ model.mixture.mean_w, rel=0.002)


def test_energy_follows_the_load_only_where_states_are_coupled():
    streams = [poisson(rate, 300.0, RNG(4)) for rate in (0.125, 4.0)]

    def mean_w(states):
        model = paper_model(CONFIG, states=states)
        return [model.generate(stream, rng=RNG(5)).power_w.mean() for stream in streams]

    low, high = mean_w("coupled")
    assert high > 1.5 * low
    low, high = mean_w("independent")
    assert high == pytest.approx(low, rel=0.05)


@pytest.mark.parametrize(("field", "value"), [("active_mean", 0.0), ("weight", [0.5, 0.5])])
def test_damage_is_refused(tmp_path, field, value):
    save_model(paper_model(CONFIG), tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())
    content["transitions"][field] = value
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=field):
        load_model(tmp_path / "model.json")
