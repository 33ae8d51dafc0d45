"""A site simulated: racks summed to rows and all, stretch by stretch at constant memory."""

import errno
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from tqdm import tqdm

from sitetrace import __version__
from sitetrace.core.files import InputError, digest_of, require
from sitetrace.site import racks, store
from sitetrace.site.facility import Pue, pue_series, resolve_pue
from sitetrace.site.plant import Plant, make_plant, unit_table
from sitetrace.site.scenario import Scenario, read_scenario
from sitetrace.site.workers import Submit, executor

CHECKPOINT_EVERY_S = 2.0
STORE, CHECKPOINT = "site.zarr", "checkpoint.npz"  # in the folder of a run that is not complete


class Stretch(NamedTuple):
    """What a stretch has come to."""

    index: int
    results: list[racks.BlockWork]  # of each block
    carries: list  # where each pool's stream and routing stand, as JSON holds it


def simulate_site(
    scenario: Scenario | Path | str,
    out: Path | str,
    *,
    workers: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Simulate the power of a site and write it as it is done.

    Memory does not grow with the hours. The result is the same, byte for byte, whatever the
    workers, and also when a run was killed and resumed.

    Parameters
    ----------
    scenario : Scenario, Path or str
        What stands where and what arrives, or the YAML file that says so.
    out : Path or str
        ``.zarr``, or ``.nc`` and ``.parquet`` for small sites; ``<out>.part`` until it is complete.
    workers : int
        Threads of this process.
    cluster : str, optional
        Address of a Dask scheduler whose workers do the work instead.
    resume : bool
        Go on with the part that a run which was cut short has left, if there is one.
    progress : bool
        Show on a terminal how far it is.

    Returns
    -------
    xarray.Dataset
        The root entry, opened: see `sitetrace.read_site`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sitetrace import simulate_site
    >>> from sitetrace.site.scenario import check_scenario
    >>> content = {"hours": 0.5, "traffic": {"pattern": "poisson", "rate_per_server": 0.5}}
    >>> content["topology"] = {"rows": 1, "racks_per_row": 2, "servers_per_rack": 2}
    >>> content["fleet"] = [{"name": "all", "model": "testbed_timeline"}]
    >>> scenario = check_scenario(content | {"chunk_s": 1800})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     site = simulate_site(scenario, Path(folder) / "site.zarr")
    ...     print(dict(site.sizes))
    {'time': 1800, 'unit': 6}
    """
    scenario = scenario if isinstance(scenario, Scenario) else read_scenario(scenario)
    plant = make_plant(scenario)
    with scenario.blaming("pue"):
        pue = resolve_pue(scenario.pue, scenario.folder)
    units = [unit_table(plant, entry, pue) for entry in plant.keep]
    out = store.check_out(out, scenario.n_steps // plant.keep[0].every * len(units[0]), len(units))
    part = out.with_name(f"{out.name}.part")
    try:
        with executor(workers, cluster) as submit:
            done, states, carries = _opened(part, scenario, plant, units, resume)
            stretches = _stretches(plant, scenario.n_steps, submit, done, states, carries)
            states = _written(scenario, plant, pue, part, stretches, states, progress)
        store.finish(part / STORE, [entry.group for entry in plant.keep], _served(states), out)
        shutil.rmtree(part)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and error.filename is None:
            raise
        mend = "free some and go on with --resume" if full else "name another place"
        raise InputError(f"{part}: cannot be written ({error.strerror}): {mend}") from error
    return store.read_site(out)


def _opened(part: Path, scenario: Scenario, plant: Plant, units: list, resume: bool) -> tuple:
    """Make the part, or read how far the one that is there has come: as of `read_checkpoint`."""
    attributes, mend = _attributes(scenario, plant), "go on with --resume, or remove it"
    require(resume or not part.exists(), part, "a run that was cut short has left it", mend)
    # a run that was cut short in its last moment has given its store away
    if (part / CHECKPOINT).exists() and (part / STORE).exists():
        with xr.open_zarr(part / STORE, consolidated=False, chunks=None) as former:
            same = all(former.attrs.get(name) == value for name, value in attributes.items())
        require(same, part, "is of another scenario, model, file or version", "remove it")
        return store.read_checkpoint(part / CHECKPOINT)
    fresh = racks.begin(plant)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    start = scenario.start.astimezone().isoformat()
    for entry, table in zip(plant.keep, units, strict=True):
        empty = store.coordinates(table, scenario.n_steps // entry.every, entry.step_s, start)
        own = attributes | {"step_s": entry.step_s}
        store.create(part / STORE, entry.group, empty.assign_attrs(own), plant.chunk // entry.every)
    return 0, fresh, [None] * len(plant.pools)


def _attributes(scenario: Scenario, plant: Plant) -> dict:
    """Tell where the power comes from: a run goes on only if all of it is the same."""
    models = {}
    for pool, given, file in zip(plant.pools, scenario.fleet, scenario.model_files, strict=True):
        board = pool.model.configuration.name
        told = {"file": given.model, "sha256": digest_of([file]), "configuration": board}
        models[pool.name] = told | {"data": pool.model.provenance["data"]}
    drawn_for = "server" if plant.keeps_servers else "rack and model"
    files = {name: digest_of([scenario.folder / name]) for _, name in scenario.named_files()}
    data = " and ".join(sorted({told["data"] for told in models.values()}))
    about = {"Conventions": "CF-1.11", "title": scenario.name, "data": data}
    about |= {"scenario": scenario.model_dump_json(exclude_none=True), "models": json.dumps(models)}
    about |= {"seed": scenario.seed}
    about |= {"utc_offset_h": scenario.start.utcoffset().total_seconds() / 3600}
    about |= {"noise": f"of models of kind timeline one draw a {drawn_for}"}
    about |= {"sitetrace": __version__}
    return about | ({"files": json.dumps(files)} if files else {})


def _stretches(
    plant: Plant, n_bins: int, submit: Submit, done: int, states: list[racks.State], carries: list
) -> Iterator[Stretch]:
    """Work on all stretches but those `done`; a block begins the next when its present one ends."""
    blocks = plant.blocks()
    bins = [min(plant.chunk, n_bins - first) for first in range(0, n_bins, plant.chunk)]
    left = iter(states)
    own = [[next(left) for _ in racks.teams(plant, block)] for block in blocks]

    def inside(block: tuple[int, int], routed: dict) -> dict:
        return {at: routed[at] for at in plant.servers_in(block) if at in routed}

    waiting = [lambda mine=mine: racks.BlockWork(np.zeros(0), [], [], mine) for mine in own]
    if done == 0:
        routed, _ = racks.routed_requests(plant, racks.FAR, (0.0, racks.WARM_UP_S), carries)
        for place, block in enumerate(blocks):
            mine = (0, own[place], inside(block, routed))
            waiting[place] = submit(racks.work_block, plant, block, racks.WARM_UP, *mine)
    for index in range(done, len(bins) + 1):
        here, results = carries, []
        if index < len(bins):
            span_s = plant.span_s(index, bins[index])
            routed, carries = racks.routed_requests(plant, index, span_s, carries)
        for place, block in enumerate(blocks):
            results.append(waiting[place]())
            if index < len(bins):
                mine = (bins[index], results[-1].states, inside(block, routed))
                waiting[place] = submit(racks.work_block, plant, block, index, *mine)
        if index > done:
            yield Stretch(index - 1, results, here)


def _written(
    scenario: Scenario,
    plant: Plant,
    pue: Pue,
    part: Path,
    stretches: Iterator[Stretch],
    states: list[racks.State],
    progress: bool,
) -> list[racks.State]:
    """Write each stretch, and now and then what is needed to go on from there."""
    import zarr

    root = zarr.open_group(part / STORE, mode="r+")
    arrays = [root[f"{entry.group or ''}/power_w".strip("/")] for entry in plant.keep]
    hours, last = scenario.n_servers * float(plant.dt) / 3600, time.monotonic()
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=round(hours * scenario.n_steps), unit=" server-hours", disable=hidden) as bar:
        for stretch in stretches:
            power_w = site_power_w(scenario, plant, pue, stretch)
            for entry, array, part_w in zip(plant.keep, arrays, power_w, strict=True):
                first = stretch.index * plant.chunk // entry.every
                array[first : first + len(part_w)] = part_w
            states, done = [each for of in stretch.results for each in of.states], stretch.index + 1
            bar.update(round(hours * min(done * plant.chunk, scenario.n_steps)) - bar.n)
            if time.monotonic() - last > CHECKPOINT_EVERY_S:
                store.write_checkpoint(part / CHECKPOINT, done, states, stretch.carries)
                last = time.monotonic()
    return states


def site_power_w(scenario: Scenario, plant: Plant, pue: Pue, stretch: Stretch) -> list[np.ndarray]:
    """Sum blocks to rows and the site: for each entry of `Plant.keep`, shape (bins, units)."""
    n_bins = stretch.results[0].gpu_w.size
    row_w = np.zeros((plant.topology.rows, n_bins))
    for (first, _), done in zip(plant.blocks(), stretch.results, strict=True):
        row_w[plant.row_of[first]] += done.gpu_w
    gpu_w = row_w.sum(axis=0)
    base_w = np.bincount(plant.row_of[plant.rack_of], plant.base_w)
    row_w = base_w[:, None] + (1.0 + plant.per_gpu_w) * row_w
    site_w = row_w.sum(axis=0)
    time_s = (stretch.index * plant.chunk + np.arange(n_bins)) * float(plant.dt)
    share = site_w / (base_w.sum() + (1.0 + plant.per_gpu_w) * plant.nameplate_gpu_w.sum())
    facility_w = site_w * pue_series(pue, time_s, share, scenario.start_hour)
    power_w = []
    for place, entry in enumerate(plant.keep):
        totals = [facility_w, site_w, gpu_w] if "site" in entry.levels else []
        totals += list(row_w) if "row" in entry.levels else []
        columns = [entry.mean(total) for total in totals]
        for level in ("racks_w", "servers_w"):
            columns += [one for done in stretch.results for one in getattr(done, level)[place]]
        power_w.append(np.column_stack(columns))
    return power_w


def _served(states: list[racks.State]) -> dict:
    tally = np.array([state["tally"] for state in states])
    names = ("requests", "input_tokens", "output_tokens")
    told = {name: int(count) for name, count in zip(names, tally[:, :3].sum(axis=0), strict=True)}
    return told | {"longest_wait_s": float(tally[:, 3].max())}
