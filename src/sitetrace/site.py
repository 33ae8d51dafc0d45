"""A site: racks, rows and all, summed stretch by stretch at constant memory."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from sitetrace import __version__
from sitetrace.checkpoint import read_checkpoint, write_checkpoint
from sitetrace.devices import device
from sitetrace.executors import executor
from sitetrace.facility import greatest_pue, non_gpu_law, pue_series, resolve_pue
from sitetrace.files import InputError, digest_of
from sitetrace.modelfile import load_model
from sitetrace.plant import TRAFFIC_KEY, Kept, Plant, Pool, Requests, begin, check_step, work_block
from sitetrace.relay import ANSWER_TOKENS, LONGEST_WAIT, PROMPT_TOKENS, SERVED
from sitetrace.routing import route
from sitetrace.scenario import Scenario, exact
from sitetrace.fleet import resolve_model
from sitetrace.sitefile import check_out, coordinates, create, finish, read_site
from sitetrace.streams import open_stream

CHECKPOINT_EVERY_S = 5.0


def simulate_site(
    scenario: Scenario,
    out: Path | str,
    *,
    workers: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Simulate the power of a site and write it as it is done.

    Memory does not grow with the hours: a stretch of time (``chunk_s`` of the scenario) is
    simulated, summed, written and forgotten. Each server has a stream of random numbers of its own
    for each stretch, so that the result is the same, byte for byte, whatever the workers, and also
    when a run was killed and resumed.

    Parameters
    ----------
    scenario : Scenario
        What stands where and what arrives.
    out : Path or str
        File to be written: ``.zarr``, or ``.nc`` and ``.parquet`` for small sites. Until it is
        complete it is called ``<out>.part``.
    workers : int
        Threads of this process; most of the work is compiled and runs side by side.
    cluster : str, optional
        Address of a Dask scheduler whose workers do the work instead.
    resume : bool
        Go on with the part that a killed run has left.
    progress : bool
        Show the server-hours done on a terminal.

    Returns
    -------
    xarray.Dataset
        The root entry, opened: see `sitetrace.sitefile.read_site`.

    Raises
    ------
    InputError
        If scenario and models do not go together, the place cannot be written, or there is (or is
        not) a part to be resumed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sitetrace import simulate_site
    >>> from sitetrace.scenario import check_scenario
    >>> scenario = check_scenario({
    ...     "hours": 0.5,
    ...     "chunk_s": 1800,
    ...     "topology": {"rows": 1, "racks_per_row": 2, "servers_per_rack": 2},
    ...     "fleet": [{"name": "all", "model": "testbed_timeline"}],
    ...     "traffic": {"pattern": "poisson", "rate_per_server": 0.5},
    ... })
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     site = simulate_site(scenario, Path(folder) / "site.zarr")
    ...     print(dict(site.sizes))
    {'time': 1800, 'unit': 6}
    """
    plant = make_plant(scenario)
    tables = [unit_table(scenario, plant, entry) for entry in plant.keep]
    n_bins = scenario.n_steps
    out = check_out(out, n_bins // plant.keep[0].every * len(tables[0]), len(plant.keep))
    part = out.with_name(out.name + ".part")
    attributes = _attributes(scenario, plant)
    try:
        done, states, carries = _opened(part, scenario, plant, tables, attributes, resume)
        with executor(workers, cluster) as submit:
            bar = tqdm(
                desc="server-hours", unit="", disable=None if progress else True,
                total=round(scenario.n_servers * n_bins * float(plant.dt) / 3600),
                initial=round(scenario.n_servers * done * plant.chunk * float(plant.dt) / 3600),
            )  # fmt: skip
            with bar:
                run = _Run(scenario, plant, part, submit, bar)
                states = run.to_the_end(done, states, carries)
        shutil.rmtree(_checkpoint(part).parent)
        finish(part, [_group(scenario, i) for i in range(len(plant.keep))], _served(states), out)
        if part.exists():
            shutil.rmtree(part)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(
            f"{part}: no space left on the device: free some and go on with --resume"
        ) from error
    return read_site(out)
