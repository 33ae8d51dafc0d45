"""Models too simple to be believed, which a better one must beat on the same seconds.

Splitwise's table is not among them: its only powers are those of Llama-70B on A100, which no
measured run at hand uses.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.activity import activity_table
from sitetrace.datasets import data_dir
from sitetrace.files import InputError, read_json
from sitetrace.serving import ConstantRate, Server, simulate
from sitetrace.trace import PowerTrace, Run

PHASES = ("idle", "prefill", "decode")
ACTIVE = 1e-6
RISING = 0.05
RISING_BINS = 2


def device(hardware: str) -> dict:
    """Datasheet values of a GPU type.

    Parameters
    ----------
    hardware : str
        Name as in ``run.json``: ``A100``, ``H100``, ``testbed``, or the full name of the device.

    Returns
    -------
    dict
        ``device``, ``tdp_w``, ``memory_bytes``, ``bandwidth_bytes_s``, ``peak_flop_s``.

    Raises
    ------
    InputError
        If the type is not in the table.
    """
    devices = read_json(data_dir() / "devices.json")["devices"]
    for name, entry in devices.items():
        if hardware in (name, entry["device"]):
            return entry
    raise InputError(f"hardware {hardware!r} is not in devices.json: it holds {', '.join(devices)}")


def nameplate(
    run: Run,
    server: Server | ConstantRate,
    requests: pd.DataFrame,
    start_s: float,
    dt: Fraction,
    size: int,
) -> PowerTrace:
    """All GPUs of the engine at their thermal design power, always.

    Parameters
    ----------
    run : Run
        Fitting run; only its configuration counts.
    server : Server or ConstantRate
        Not used: nothing is served.
    requests : pandas.DataFrame
        Not used.
    start_s : float
        Begin of the trace, seconds on the clock of `requests`.
    dt : fractions.Fraction
        Step, seconds.
    size : int
        Number of bins.

    Returns
    -------
    PowerTrace
        A constant.
    """
    power_w = device(run.configuration.hardware)["tdp_w"] * run.configuration.tensor_parallel
    return PowerTrace(start_s, dt, np.full(size, power_w))


def mean_power(
    run: Run,
    server: Server | ConstantRate,
    requests: pd.DataFrame,
    start_s: float,
    dt: Fraction,
    size: int,
) -> PowerTrace:
    """Mean of all the power samples of the fitting run, always.

    Parameters
    ----------
    run : Run
        Fitting run.
    server : Server or ConstantRate
        Not used.
    requests : pandas.DataFrame
        Not used.
    start_s : float
        Begin of the trace, seconds on the clock of `requests`.
    dt : fractions.Fraction
        Step, seconds.
    size : int
        Number of bins.

    Returns
    -------
    PowerTrace
        A constant.
    """
    return PowerTrace(start_s, dt, np.full(size, float(run.samples["power_w"].mean())))


def phase_lookup(
    run: Run,
    server: Server | ConstantRate,
    requests: pd.DataFrame,
    start_s: float,
    dt: Fraction,
    size: int,
) -> PowerTrace:
    """Mean power that the fitting run drew while idle, in prefill and in decode.

    The phases are those of the look-up table that the paper's repository compares itself with
    (grantwilkins/powertrace-sim, March 2026; see `phases`).

    Parameters
    ----------
    run : Run
        Fitting run, with requests.
    server : Server or ConstantRate
        What turns requests into activity, in the fitting run and in the trace alike: the paper's
        surrogate for its own form, our calibrated engine for the better one.
    requests : pandas.DataFrame
        Requests whose power is asked for.
    start_s : float
        Begin of the trace, seconds on the clock of `requests`.
    dt : fractions.Fraction
        Step, seconds.
    size : int
        Number of bins.

    Returns
    -------
    PowerTrace
        One of three values in each bin; a phase that the fitting run never had takes its mean.

    Raises
    ------
    InputError
        If the fitting run has no requests.
    """
    if run.requests is None:
        raise InputError(f"{run.name}: no requests.csv: phases need the requests of the run")
    fitted = activity_table(
        simulate(run.requests, server), run.samples["time_s"].to_numpy(), float(run.dt)
    )
    levels = run.samples["power_w"].groupby(phases(fitted)).mean()
    levels = levels.reindex(PHASES).fillna(run.samples["power_w"].mean())
    ends_s = PowerTrace(start_s + float(dt), dt, np.zeros(size)).time_s
    asked = activity_table(simulate(requests, server), ends_s, float(dt))
    return PowerTrace(start_s, dt, levels.loc[phases(asked)].to_numpy())


def phases(activity: pd.DataFrame) -> np.ndarray:
    """Name the phase of each bin by the paper's repository's rule.

    Parameters
    ----------
    activity : pandas.DataFrame
        ``active`` and ``delta_active`` of each bin, n rows.

    Returns
    -------
    numpy.ndarray
        Shape (n,): ``idle`` with no active request; ``prefill`` where the number of active
        requests rises for at least two bins on end; else ``decode``.
    """
    active = activity["active"].to_numpy() > ACTIVE
    rising = pd.Series(active & (activity["delta_active"].to_numpy() > RISING))
    stretch = rising.groupby((rising != rising.shift()).cumsum()).transform("size")
    prefill = (rising & (stretch >= RISING_BINS)).to_numpy()
    return np.select([~active, prefill], ["idle", "prefill"], "decode")


def static_replay(
    run: Run,
    server: Server | ConstantRate,
    requests: pd.DataFrame,
    start_s: float,
    dt: Fraction,
    size: int,
) -> PowerTrace:
    """Replay the power of the fitting run, whatever is asked; over and over if it is too short.

    Parameters
    ----------
    run : Run
        Fitting run.
    server : Server or ConstantRate
        Not used.
    requests : pandas.DataFrame
        Only their first arrival counts: the fitting run's is laid upon it.
    start_s : float
        Begin of the trace, seconds on the clock of `requests`.
    dt : fractions.Fraction
        Step, seconds.
    size : int
        Number of bins.

    Returns
    -------
    PowerTrace
        Means of the recording over each bin; a sample holds from the one before to its own time.
    """
    time_s = run.samples["time_s"].to_numpy()
    begin_s = time_s[0] - float(run.dt)
    knots_s = np.concatenate([[0.0], time_s - begin_s])
    energy_j = np.concatenate([[0.0], np.cumsum(run.samples["power_w"] * np.diff(knots_s))])
    load_s = 0.0 if run.requests is None else float(run.requests["arrival_s"].iloc[0]) - begin_s
    edges = PowerTrace(start_s - float(requests["arrival_s"].iloc[0]), dt, np.zeros(size + 1))
    turns, rest_s = np.divmod(edges.time_s + load_s, knots_s[-1])
    spent_j = turns * energy_j[-1] + np.interp(rest_s, knots_s, energy_j)
    return PowerTrace(start_s, dt, np.diff(spent_j) / float(dt))


BASELINES = {
    "nameplate": nameplate,
    "mean": mean_power,
    "phase look-up": phase_lookup,
    "static replay": static_replay,
}
