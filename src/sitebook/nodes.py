"""The node of another laboratory: what it published of its runs, and what a fitted model says.

Its tables hold means of runs (node watts, TTFT, TPOT) and, of requests, mean lengths alone. So
every request here has the mean lengths, and the watts besides the GPUs are one constant.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from sitetrace.core.registry import dataset_path
from sitetrace.core.types import Timeline
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import activity_table
from sitetrace.serving.engine import Engine, Server, simulate
from sitetrace.testbed import Testbed, true_power_w
from sitetrace.workload.streams import LogNormalLengths

# The laboratory's own post-processing keeps of a run at a rate what lies between these seconds.
WINDOW_S = (60.0, 240.0)
FINITE = 1000  # requests of a run that is served to its end
STEP_S = 0.25
NAMES = {"node_mean_w": "node_w", "median_ttft_ms": "ttft_ms", "median_tpot_ms": "tpot_ms"}
NAMES |= {"max_output_tokens": "output_tokens"}
TESTBED_RATES, TESTBED_BATCHES = np.arange(0.5, 8.1, 0.5), (4, 8, 16, 32, 64)


def published(limit: int = 1024, shorter: int = 256) -> dict[str, pd.DataFrame]:
    """Read the laboratory's tables by request rate (two kinds of runs) and by batch."""
    folder = dataset_path("nlr_llama_70b_h100")
    finite = pd.read_csv(folder / "nlr_online_finite.csv").dropna().rename(columns=NAMES)
    for side in ("input", "output"):
        finite[f"{side}_tokens"] = finite[f"total_{side}_tokens"] / finite["requests"]
    tokens = finite.groupby("output_limit")[["input_tokens", "output_tokens"]].mean()
    told = ["node_w", "ttft_ms", "tpot_ms", "input_tokens", "output_tokens"]
    finite = finite[finite["output_limit"] == limit].groupby("requests_per_s")[told].median()
    # a run at a rate does not say its limit: by one limit or the other
    rate = pd.read_csv(folder / "nlr_online_rate.csv").rename(columns=NAMES)
    rate = rate.set_index("requests_per_s")[["node_w"]]
    batch = pd.read_csv(folder / "nlr_offline.csv").rename(columns=NAMES)
    batch = batch.groupby("batch_size")[["node_w", "elapsed_s", "output_tokens"]].median()
    # a batch takes as many steps as its limit has tokens: all answers are that long; prompts of
    # a batch are not stated
    batch = batch.assign(input_tokens=tokens.loc[limit, "input_tokens"])
    by_rate = {"rate": rate.assign(**tokens.loc[limit])}
    by_rate["shorter"] = rate.assign(**tokens.loc[shorter])
    return by_rate | {"finite": finite, "batch": batch}


def simulated(other_w: float, seed: int) -> dict[str, pd.DataFrame]:
    """Measure a testbed node in the same way; besides its GPU it takes a known constant."""
    rng, testbed, tables = np.random.default_rng(seed), Testbed(), {}
    for kind in ("rate", "finite"):
        rows = {}
        for rate in TESTBED_RATES:
            count = round(rate * WINDOW_S[1]) if kind == "rate" else FINITE
            tokens = LogNormalLengths()(count, rng).T
            requests = _requests(np.arange(count) / rate, *tokens)
            rows[rate] = _measured(testbed, requests, kind, rng)
        tables[kind] = pd.DataFrame(rows).T.rename_axis("requests_per_s")
    rows = {}
    for size in TESTBED_BATCHES:
        rows[size] = _measured(testbed, _requests(np.zeros(size), 300, 200), "batch", rng)
    tables["batch"] = pd.DataFrame(rows).T.rename_axis("batch_size")
    tables = {kind: t.assign(node_w=t["node_w"] + other_w) for kind, t in tables.items()}
    shorter = tables["rate"].assign(output_tokens=0.8 * tables["rate"]["output_tokens"])
    return tables | {"shorter": shorter}


def _measured(testbed: Testbed, requests: pd.DataFrame, kind: str, rng) -> dict[str, float]:
    timeline = simulate(requests, testbed.server)
    table = activity_table(timeline, _ends(timeline, kind), STEP_S)
    tokens = requests[["input_tokens", "output_tokens"]].mean().to_dict()
    watts = {"node_w": true_power_w(testbed, table, rng).mean()}
    return watts | tokens | _waits(timeline.requests, testbed.server)


def _ends(timeline: Timeline, kind: str) -> np.ndarray:
    """End the bins that a run's mean is taken over."""
    whole = (0.0, timeline.requests["end_s"].max())
    begin_s, end_s = WINDOW_S if kind == "rate" else whole
    return np.arange(begin_s + STEP_S, end_s + STEP_S / 2, STEP_S)


def _requests(arrival_s: np.ndarray, input_tokens, output_tokens) -> pd.DataFrame:
    tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    return pd.DataFrame({"arrival_s": arrival_s} | tokens)


def _waits(fate: pd.DataFrame, server: Server) -> dict[str, float]:
    ttft_s = fate["first_token_s"] - fate["arrival_s"] + server.overhead_s
    tpot_s = (fate["end_s"] - fate["first_token_s"]) / (fate["output_tokens"] - 1).clip(lower=1)
    told = {"ttft_ms": 1e3 * ttft_s.median(), "tpot_ms": 1e3 * tpot_s.median()}
    return told | {"elapsed_s": fate["end_s"].max() - fate["arrival_s"].min()}


def remembering(server: Server, tokens: int) -> Server:
    """Take prompts whose first tokens the prefix cache holds: they cost a step their context."""
    return replace(server, c1_s=server.c1_s + server.c3_s * tokens)


def served(model: TimelineModel, loads: pd.DataFrame, kind: str, cached: int = 0) -> pd.DataFrame:
    """Serve loads of the mean lengths that are stated: GPU watts, TTFT, TPOT and seconds taken."""
    server, rows = remembering(model.server, cached), {}
    for load in loads.itertuples():
        count = {"rate": load.Index * WINDOW_S[1], "finite": FINITE, "batch": load.Index}[kind]
        arrival_s = np.arange(round(count)) / (np.inf if kind == "batch" else load.Index)
        tokens = round(load.input_tokens) - cached, round(load.output_tokens)
        until_s = WINDOW_S[1] if kind == "rate" else np.inf  # of a queue without end the beginning
        timeline = Engine(server).advance(until_s, _requests(arrival_s, *tokens))
        power_w = model.surface.mean_power_w(timeline, _ends(timeline, kind), STEP_S)
        rows[load.Index] = {"gpu_w": power_w.mean()} | _waits(timeline.requests, server)
    return pd.DataFrame(rows).T.rename_axis(loads.index.name)
