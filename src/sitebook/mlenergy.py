"""Power traces of the ML.ENERGY benchmark: saturated servers by batch limit, without requests.

As in the repository gpu2grid/openg2g: an index ``traces_summary.csv`` and one file a trace.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError, require
from sitetrace.core.registry import device
from sitetrace.core.types import PowerTrace
from sitetrace.power.states.mixture import bic_curve
from sitetrace.power.timeline.fit import TRIED
from sitetrace.serving.engine import counted

INDEX = "traces_summary.csv"
COLUMNS = {"model_label": "model", "num_gpus": "gpus", "max_num_seqs": "batch_limit"}
TIME, POWER, AGAIN = "relative_time_s", "power_total_W", "fetch the folder anew"
THINNED, COUNTS = 400, (1, 2, 3, 4, 5, 6)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}): check the path") from None
    missing = [name for name in columns if name not in table]
    require(not missing, path, f"no column {', '.join(missing)}", AGAIN)
    return table


def list_traces(folder: Path | str) -> pd.DataFrame:
    """List the traces of a folder."""
    index = _read(Path(folder) / INDEX, [*COLUMNS, "trace_file"])
    path = [Path(folder) / Path(name).name for name in index["trace_file"]]
    for each in path:
        require(each.is_file(), each, f"named in {INDEX} but not there", AGAIN)
    table = index.rename(columns=COLUMNS)[list(COLUMNS.values())].assign(path=path)
    return table.sort_values(["model", "batch_limit"], ignore_index=True)


def read_trace(path: Path | str) -> PowerTrace:
    """Read the power of all GPUs of one trace."""
    table = _read(Path(path), [TIME, POWER])
    steps_s = np.diff(table[TIME].to_numpy(dtype=float))
    step_s = float(np.median(steps_s)) if steps_s.size else np.nan
    even = step_s > 0 and np.allclose(steps_s, step_s, atol=0.01 * step_s)
    require(even, path, f"{TIME} has no even step", AGAIN)
    step = Fraction(step_s).limit_denominator(1000)
    return PowerTrace(float(table[TIME].iloc[0]), step, table[POWER].to_numpy(dtype=float))


def by_batch_limit(folder: Path | str) -> pd.DataFrame:
    """Describe the traces of a folder, watts a GPU, one row each."""
    rows = []
    for entry in list_traces(folder).to_dict("records"):
        power_w = read_trace(entry["path"]).power_w / entry["gpus"]
        low, high = np.quantile(power_w, [0.05, 0.95])
        told = {"mean_w": power_w.mean(), "sd_w": power_w.std(), "width_w": high - low}
        rows.append(entry | told)
    return pd.DataFrame(rows)


def states_by_bic(path: Path | str, seed: int) -> int:
    """Count the states that BIC would take, from as many samples of each trace."""
    power_w = read_trace(path).power_w
    few = power_w[np.linspace(0, power_w.size - 1, THINNED).astype(int)]
    return int(bic_curve(few, COUNTS, seed).set_index("n_states")["bic"].idxmin())


def continued(limits: pd.DataFrame) -> pd.DataFrame:
    """Fit power over the batch on the lower half of a model's limits; continue it to the upper.

    A straight line, and the surface's form: as long as few sequences decode each adds as much, and
    ever less from a scale on, of which the one with the least squares is taken.
    """
    batch, power_w = (limits[name].to_numpy(dtype=float) for name in ("batch_limit", "mean_w"))
    seen = np.arange(batch.size) < np.ceil(batch.size / 2)
    curves = []
    for x in (batch, *(counted(batch, scale) for scale in TRIED["batch"])):
        curves.append(np.polynomial.Polynomial.fit(x[seen], power_w[seen], 1)(x))
    best = min(curves[1:], key=lambda curve: ((curve - power_w)[seen] ** 2).sum())
    told = {"line_w": curves[0], "surface_w": np.minimum(best, device("H100")["tdp_w"])}
    return limits[["model", "batch_limit", "mean_w"]].assign(**told, judged=~seen)
