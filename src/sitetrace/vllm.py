"""What vLLM's serving benchmark and metrics hold: requests and engine counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sitetrace.files import InputError, read_json, read_table
from sitetrace.meters import EPOCH_FROM, EPOCH_TO
from sitetrace.requests import validate_requests

ENGINE_NAMES = {
    "timestamp": "time_s",
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generation_tokens",
    "iteration_tokens_total_count": "steps",
}


def read_vllm_requests(path: Path | str) -> tuple[pd.DataFrame, list[str]]:
    """Read the detailed result of vLLM's serving benchmark."""
    content = read_json(path)
    sent_name = next((n for n in ("request_timestamps", "start_times") if n in content), None)
    if sent_name is None:
        raise InputError(
            f"{path}: neither request_timestamps nor start_times: arrivals are not known and are "
            "not invented: save them with the client"
        )
    names = (sent_name, "input_lens", "output_lens", "ttfts", "itls")
    count = len(_array(path, content, sent_name))
    for name in names:
        if len(_array(path, content, name)) != count:
            raise InputError(
                f"{path}: {name} has {len(content[name])} entries but {sent_name} has {count}: "
                "save the result again with --save-detailed"
            )
    errors = content.get("errors") or [""] * count
    if not isinstance(errors, list) or len(errors) != count:
        raise InputError(f"{path}: errors: not one entry a request: save the result again")
    good = [i for i in range(count) if not errors[i] and content["output_lens"][i] != 0]
    if not good:
        raise InputError(f"{path}: no request succeeded: run the benchmark again")
    columns = {name: _request_numbers(path, content, name, good) for name in names[:4]}
    decode_s = np.array([_sum_itls(path, i, content["itls"][i]) for i in good])
    sent_s, ttft_s = columns[sent_name], columns["ttfts"]
    if ((sent_s < EPOCH_FROM) | (sent_s > EPOCH_TO)).any():
        raise InputError(
            f"{path}: {sent_name}: {sent_s[0]:g} is no epoch second (vLLM's own client counts from "
            "the machine's start): add time.time() - time.perf_counter() of that machine"
        )
    table = pd.DataFrame(
        {
            "arrival_s": sent_s,
            "input_tokens": columns["input_lens"],
            "output_tokens": columns["output_lens"],
            "ttft_s": ttft_s,
            "end_s": sent_s + ttft_s + decode_s,
        }
    )
    notes = []
    if len(good) < count:
        notes.append(f"{Path(path).name}: {count - len(good)} failed requests left out")
    if (np.diff(sent_s) < 0).any():
        notes.append(f"{Path(path).name}: requests sorted by arrival")
    return validate_requests(table, path), notes


def _array(path: Path | str, content: dict, name: str) -> list:
    """Return an array of the result, or say what is wrong with it."""
    if not isinstance(content.get(name), list):
        raise InputError(f"{path}: {name} is missing or no array: save with --save-detailed")
    return content[name]


def _request_numbers(path: Path | str, content: dict, name: str, good: list[int]) -> np.ndarray:
    """Return one number of each good request, naming the one that is none."""
    least = 0 if name == "ttfts" else 1
    for i in good:
        value = content[name][i]
        if type(value) not in (int, float) or not least <= value < 1e15:
            raise InputError(
                f"{path}: {name}[{i}]: {str(value)[:40]!r} is no sensible number: mend or remove "
                "that request"
            )
    return np.array([float(content[name][i]) for i in good])


def _sum_itls(path: Path | str, i: int, itls: object) -> float:
    """Sum one request's inter-token latencies."""
    try:
        values = np.asarray(itls, dtype=float)
    except (TypeError, ValueError, OverflowError):
        values = np.array([np.nan])
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise InputError(f"{path}: itls[{i}]: no list of seconds: mend or remove that request")
    return float(values.sum())


def read_vllm_metrics(path: Path | str) -> pd.DataFrame:
    """Read samples of vLLM's Prometheus metrics taken to a CSV file."""
    names = list(ENGINE_NAMES)
    return read_table(path, tuple(names[:5]), tuple(names[5:])).rename(columns=ENGINE_NAMES)
