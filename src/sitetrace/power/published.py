"""The configurations of arXiv:2603.18383 as models, made from its published numbers alone.

They are those of its repository (grantwilkins/powertrace-sim), which lacks the state classifier.
"""

from fractions import Fraction

import numpy as np

from sitetrace.core.files import digest_of, named, require
from sitetrace.core.registry import data_dir, read_paper_table
from sitetrace.core.types import Configuration
from sitetrace.power.states.mixture import Emissions, published_mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Coupled, Independent
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT

STATES, EMISSIONS = ("coupled", "independent"), ("gaussian", "ar1")
SERVING = ("constant_rate", "log_normal_ttft")
TABLES = ("mixtures", "configurations", "serving_surrogate")
RULES = {
    "coupled": "states by quantile coupling of the active count to the mixture's weights: a rule "
    "of sitetrace, not of the paper, whose classifier is not published",
    "independent": "states drawn from the mixture's weights in every bin, whatever is served",
}
OLDER = "older fit"
TTFT = ("alpha", "beta", "s0", "gamma", "delta")


def surrogate(config: str, kind: str) -> ConstantRate | LogNormalTTFT:
    """One of the paper's two serving surrogates with the constants of a configuration."""
    named("serving of the paper", kind, SERVING)
    table = read_paper_table("serving_surrogate").set_index("config")
    mend = "take another configuration, or serving constant_rate"
    require(config in table.index, config, "no constants of serving are published for it", mend)
    row = table.loc[config]
    if kind == "constant_rate":
        return ConstantRate(float(row["lambda_prefill_tok_s"]), float(row["lambda_decode_tok_s"]))
    require(not row.isna().any(), config, "no log-normal TTFT is published for it", mend)
    tpot_s = (row[f"tpot_{name}_ms"] / 1e3 for name in ("mean", "sd"))
    return LogNormalTTFT(*map(float, (*row[list(TTFT)], *tpot_s)), int(row["max_active"]))


def paper_model(
    config: str, *, states: str = "coupled", emissions: str = "gaussian", serving: str = SERVING[0]
) -> StatesModel:
    """Make a model of one of the paper's configurations from its published numbers.

    Parameters
    ----------
    config : str
        Name of a configuration, such as ``llama-3-70b_H100_tp4``.
    states : str
        ``coupled`` (to the active count, a rule of sitetrace) or ``independent``.
    emissions : str
        ``gaussian`` or ``ar1``.
    serving : str
        ``constant_rate`` or ``log_normal_ttft``.

    Returns
    -------
    StatesModel
        It holds idle among its states. An `InputError` says which number is not published.
    """
    from sitetrace import __version__

    table = read_paper_table("configurations").set_index("config")
    rows = read_paper_table("mixtures")
    named("configuration of the paper", config, table.index)
    named("states of the paper", states, STATES)
    named("emissions of the paper", emissions, EMISSIONS)
    row, phi = table.loc[config], rows.loc[rows["config"] == config, "phi"].to_numpy()
    server, mixture = surrogate(config, serving), published_mixture(rows, config)
    known = emissions != "ar1" or not np.isnan(phi).any()
    require(known, config, "no phi is published for it", "take emissions gaussian")
    transitions = Independent(mixture.weight)
    if states == "coupled":
        what = "its active requests were counted in an earlier campaign"
        require(not row["source"].startswith(OLDER), config, what, "take states independent")
        transitions = Coupled(float(row["active_mean"]), float(row["active_std"]), mixture.weight)
    paths = [data_dir() / "paper" / f"{name}.csv" for name in TABLES]
    runs = [{"name": path.name, "sha256": digest_of([path])} for path in paths]
    provenance = {"data": "paper", "config": config, "runs": runs, "rule": RULES[states]}
    provenance |= {"sitetrace": __version__, "selection": {}}
    # only empirical emissions would read the quantiles
    emitted = Emissions(emissions, np.nan_to_num(phi), np.tile(mixture.mean_w, (2, 1)).T)
    configuration = Configuration(row["model"], row["gpu"], int(row["tensor_parallel"]))
    limits, dt = (float(row["power_min_w"]), float(row["power_max_w"])), Fraction(str(row["dt_s"]))
    parts = (server, None, mixture, transitions, emitted)
    return StatesModel(configuration, dt, *parts, limits, {}, provenance)
