"""How much of a recording's autocorrelation is its idle and busy seconds alternating."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sitebook.old.judging.comparison import TESTBED
from sitebook.old.judging.splits import Part
from sitetrace.core.types import PowerTrace, Run, cut_run
from sitetrace.evaluate.judge import aligned, evaluate
from sitetrace.evaluate.metrics import acf_lags, acf_r2

SHUFFLES = 20


def judged_power(run: Run, part: Part, traces: list[PowerTrace]) -> tuple[pd.DataFrame, np.ndarray]:
    """Measured and generated power of the judged bins, and which of them are busy."""
    cut = cut_run(run, part.start_s, part.stop_s)
    pairs = [aligned(cut, trace) for trace in traces]
    power = pd.DataFrame({"measured": pairs[0][0]} | {k: p[1] for k, p in enumerate(pairs)})
    time_s = cut.samples["time_s"].to_numpy()[: len(power)]
    begin_s, end_s, _ = run.busy_span() or (time_s[0], time_s[-1], "")
    return power, (time_s > begin_s) & (time_s <= end_s)


def shuffled(power_w: np.ndarray, busy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Take the memory out of the busy seconds and leave all else as it is."""
    mixed = power_w.copy()
    mixed[busy] = rng.permutation(power_w[busy])
    return mixed


def between_share(power_w: np.ndarray, busy: np.ndarray) -> float:
    """Share of a recording's variance that lies between its idle and its busy seconds."""
    level_w = pd.Series(power_w).groupby(busy).transform("mean")
    return float(level_w.var(ddof=0) / power_w.var())


def alternation(run: Run, part: Part, traces: list[PowerTrace], seed: int) -> dict:
    """Score a recording against itself with only its idle and busy alternating, and without it."""
    power, busy = judged_power(run, part, traces[:1])
    power_w, lags = power["measured"].to_numpy(), acf_lags(float(run.dt))
    rng = np.random.default_rng(seed)
    level_w = pd.Series(power_w).groupby(busy).transform("mean").to_numpy()
    scored = [acf_r2(power_w, shuffled(power_w, busy, rng), lags) for _ in range(SHUFFLES)]
    return {
        "judged": part.run.removeprefix(TESTBED),
        "idle_share": float((~busy).mean()),
        "between": between_share(power_w, busy),
        "two_levels": acf_r2(power_w, level_w, lags),
        "shuffled": float(np.median(scored)),
        "low": min(scored),
        "high": max(scored),
        "no_idle": acf_r2(power_w, power_w[busy], lags),
        "uncut": evaluate(run, traces)["native"]["whole"]["acf_r2"],
    }


def idle_effect(
    busy_w: np.ndarray, idle_w: np.ndarray, shares: tuple[float, ...], dt_s: float, seed: int
) -> pd.DataFrame:
    """Score a recording without its memory when it has more and more idle at its ends."""
    rows = []
    for share in shares:
        rng = np.random.default_rng(seed)
        size = round(share / (1 - share) * busy_w.size)
        whole_w = np.concatenate([rng.choice(idle_w, size), busy_w])
        busy = np.arange(whole_w.size) >= size
        scored = [
            acf_r2(whole_w, shuffled(whole_w, busy, rng), acf_lags(dt_s)) for _ in range(SHUFFLES)
        ]
        rows.append(
            {"idle_share": share, "acf_r2": np.median(scored), "low": min(scored)}
            | {"high": max(scored), "between": between_share(whole_w, busy)}
        )
    return pd.DataFrame(rows)
