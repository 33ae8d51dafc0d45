"""Power traces of the ML.ENERGY benchmark: saturated servers by batch limit, without requests.

As in the repository gpu2grid/openg2g: an index ``traces_summary.csv`` and one file a trace.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.core.files import InputError
from sitetrace.core.types import PowerTrace

INDEX = "traces_summary.csv"
INDEX_COLUMNS = ("model_label", "num_gpus", "max_num_seqs", "trace_file")
TIME, POWER = "relative_time_s", "power_total_W"


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}): check the path") from None
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}: fetch the file anew")
    return table


def list_traces(folder: Path | str) -> pd.DataFrame:
    """List the traces of a folder."""
    folder = Path(folder)
    index = _read(folder / INDEX, INDEX_COLUMNS)
    path = [folder / Path(name).name for name in index["trace_file"]]
    for each in path:
        if not each.is_file():
            raise InputError(f"{each}: named in {INDEX} but not there: fetch the folder anew")
    named = dict(zip(INDEX_COLUMNS, ("model", "gpus", "batch_limit"), strict=False))
    table = index.rename(columns=named)[list(named.values())].assign(path=path)
    return table.sort_values(["model", "batch_limit"], ignore_index=True)


def read_trace(path: Path | str) -> PowerTrace:
    """Read the power of all GPUs of one trace."""
    table = _read(Path(path), (TIME, POWER))
    time_s = table[TIME].to_numpy(dtype=float)
    step_s = float(np.median(np.diff(time_s))) if time_s.size > 1 else np.nan
    if not step_s > 0 or not np.allclose(np.diff(time_s), step_s, atol=0.01 * step_s):
        raise InputError(f"{path}: {TIME} has no even step: fetch the file anew")
    step = Fraction(step_s).limit_denominator(1000)
    return PowerTrace(float(time_s[0]), step, table[POWER].to_numpy(dtype=float))


def by_batch_limit(folder: Path | str) -> pd.DataFrame:
    """Describe the traces of a folder, one row each."""
    rows = []
    for entry in list_traces(folder).to_dict("records"):
        power_w = read_trace(entry["path"]).power_w / entry["gpus"]
        low, high = np.quantile(power_w, [0.05, 0.95])
        told = {"mean_w": power_w.mean(), "sd_w": power_w.std(), "width_w": high - low}
        rows.append(entry | told)
    return pd.DataFrame(rows)
