"""The paper's configurations as models: what can be made, and its campaign generated again."""

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.registry import device, read_paper_table
from sitetrace.power.published import STATES, paper_model
from sitetrace.power.states.transitions import active_distribution
from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

# the paper's campaign: requests a second, each for ten minutes
RATES_PER_S, RUN_S = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0), 600.0
VARIANTS = {
    "coupled": {},
    "independent": {"states": "independent"},
    "AR(1)": {"states": "independent", "emissions": "ar1"},
    "log-normal TTFT": {"states": "independent", "serving": "log_normal_ttft"},
}


def configurations() -> pd.DataFrame:
    """List the paper's configurations, their nameplate power and the mean of their mixture."""
    table = read_paper_table("configurations").set_index("config")
    states = read_paper_table("mixtures")
    return table.assign(
        main=table.index.isin(read_paper_table("run_summary")["config"]),
        nameplate_w=table["gpu"].map(lambda gpu: device(gpu)["tdp_w"]) * table["tensor_parallel"],
        mixture_mean_w=(states["weight"] * states["mean_w"]).groupby(states["config"]).sum(),
    )


def missing_numbers() -> pd.DataFrame:
    """Say of each configuration and kind of model which number is not published; empty if none."""

    def why_not(config: str, how: dict) -> str:
        try:
            paper_model(config, **how)
        except InputError as error:
            return str(error).partition(": ")[2].partition(":")[0]
        return ""

    told = {
        config: {name: why_not(config, how) for name, how in VARIANTS.items()}
        for config in read_paper_table("configurations")["config"]
    }
    return pd.DataFrame(told).T.rename_axis("config")


def campaign(config: str, seed: int) -> tuple[dict[str, list[np.ndarray]], float, float]:
    """Generate the paper's campaign: power by kind of states and rate, and how busy it is."""
    # how busy: mean active requests, and how often none is over the weight of the lowest state
    models = {states: paper_model(config, states=states) for states in STATES}
    power_w: dict[str, list[np.ndarray]] = {states: [] for states in STATES}
    request_s = span_s = 0.0
    for i, rate in enumerate(RATES_PER_S):
        rng = np.random.default_rng([seed, i])
        timeline = simulate(poisson(rate, RUN_S, rng), models["coupled"].server, rng)
        ended = timeline.requests
        request_s += float((ended["end_s"] - ended["arrival_s"]).sum())
        span_s += float(ended["end_s"].max() - ended["arrival_s"].min())
        for states, model in models.items():
            # from the first arrival to the last token: the ends of their recordings are not known
            power_w[states].append(model.draw(timeline, rng, None, 0.0, 0.0).power_w)
    coupled = models["coupled"].transitions
    empty = active_distribution(coupled.active_mean, coupled.active_sd).pmf(0)
    return power_w, request_s / span_s, float(empty / coupled.weight[0])
