"""Requests a second: our engine beside another public simulator of LLM serving on the same ones.

Vidur (https://pypi.org/project/vidur) has its step times from profiles that it downloads when it
is run. Here it is given the law of our engine's steps instead, and the same limits: no network,
and each request ends when it ends with us, which is printed. What is timed is building and running
the simulation, without logs, metrics and traces; the law is some 5 % of that. Vidur works step
by step, so that its rate falls with the tokens of the answers and hardly depends on how many
requests there are: a short stream will do.

splitwise-sim is not in the package registry. The maintainers have measured 2,600 requests a second
with it on a machine like the one that the bars of this bench are set for: theirs, not a result of
this bench.
"""

import logging
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pandas as pd

from sitetrace.serving.engine import Server, simulate
from sitetrace.workload.streams import poisson

BLOCK_TOKENS = 16
RATE_PER_S = 0.5
DAY_S = 86400.0
SHORT_S = 1000.0
REPEATS = 3


def has_vidur() -> bool:
    """Tell whether the other simulator is there."""
    return find_spec("vidur") is not None


def law_predictor(server: Server) -> type:
    """Make vidur's predictor of step times from the law of our engine."""
    from vidur._native.entities import ExecutionTime
    from vidur.execution_time_predictor import BaseExecutionTimePredictor

    class LawPredictor(BaseExecutionTimePredictor):
        def get_execution_time(self, batch: object, pipeline_stage: int) -> object:
            decoding = context = prefill = 0
            pairs = 0.0
            parts = zip(batch.requests, batch.num_q_tokens, batch.num_kv_tokens, strict=True)
            for request, new, tokens in parts:
                if request.is_prefill_complete:
                    decoding += 1
                    context += tokens
                else:
                    prefill += new
                    pairs += new * (tokens - new / 2)
            step_s = server.c0_s + server.c1_s * decoding + server.c2_s * prefill
            step_s += server.c3_s * context + server.c4_s * pairs
            # One layer that takes the whole step, in milliseconds, in the first of its 14 parts.
            return ExecutionTime(1, 1e3 * step_s, *[0.0] * 13)

    # The parts that vidur would add up are all in the law.
    LawPredictor.__abstractmethods__ = frozenset()
    return LawPredictor


def replay_generator(requests: pd.DataFrame) -> type:
    """Make vidur's generator of requests from a table of them."""
    from vidur.entities import Request
    from vidur.request_generator.base_request_generator import BaseRequestGenerator

    columns = [requests[n].tolist() for n in ("arrival_s", "input_tokens", "output_tokens")]

    class Replay(BaseRequestGenerator):
        def generate_requests(self) -> list:
            self.config.made = [Request(*row) for row in zip(*columns, strict=True)]
            return self.config.made

    return Replay


def vidur_config(requests: pd.DataFrame, server: Server, folder: str) -> object:
    """One replica with the limits of our engine, and nothing written."""
    from vidur import config

    replica = config.ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1)
    cache = config.CacheConfig(
        block_size=BLOCK_TOKENS,
        num_blocks=server.kv_tokens // BLOCK_TOKENS,
        watermark_blocks_fraction=0.0,
    )
    scheduler = config.SarathiSchedulerConfig(
        batch_size_cap=server.max_num_seqs, chunk_size=server.max_num_batched_tokens
    )
    longest = int((requests["input_tokens"] + requests["output_tokens"]).max())
    return config.SimulationConfig(
        cluster_config=config.ClusterConfig(
            replica_config=replica, cache_config=cache, replica_scheduler_config=scheduler
        ),
        request_generator_config=config.SyntheticRequestGeneratorConfig(
            length_generator_config=config.FixedRequestLengthGeneratorConfig(max_tokens=longest)
        ),
        metrics_config=config.MetricsConfig(
            write_metrics=False,
            enable_chrome_trace=False,
            store_plots=False,
            store_request_metrics=False,
            store_batch_metrics=False,
            store_utilization_metrics=False,
            output_dir=folder,
        ),
    )


def run_vidur(requests: pd.DataFrame, server: Server) -> tuple[float, np.ndarray]:
    """Serve requests with vidur: seconds that it took, and when each of them ended."""
    from vidur.entities import Replica
    from vidur.execution_time_predictor import ExecutionTimePredictorRegistry
    from vidur.request_generator import RequestGeneratorRegistry
    from vidur.simulator import Simulator
    from vidur.types import ExecutionTimePredictorType, RequestGeneratorType

    logging.getLogger("vidur").setLevel(logging.ERROR)
    # A second run in one process has to count its replicas from 0 again.
    Replica._id = -1
    plugs = (
        (ExecutionTimePredictorRegistry, ExecutionTimePredictorType, "RANDOM_FORREST"),
        (RequestGeneratorRegistry, RequestGeneratorType, "SYNTHETIC"),
    )
    ours = law_predictor(server), replay_generator(requests)
    for (registry, kinds, name), plug in zip(plugs, ours, strict=True):
        registry.unregister(kinds[name])
        registry.register(kinds[name], plug)
    with tempfile.TemporaryDirectory() as folder:
        config = vidur_config(requests, server, folder)
        begin = time.perf_counter()
        Simulator(config).run()
        took_s = time.perf_counter() - begin
    made = config.request_generator_config.made
    return took_s, np.array([request.completed_at for request in made])


def run_ours(requests: pd.DataFrame, server: Server) -> tuple[float, np.ndarray]:
    """Serve requests with our engine, as `run_vidur` does; the shortest of a few repeats."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        timeline = simulate(requests, server)
        times.append(time.perf_counter() - begin)
    return min(times), timeline.requests["end_s"].to_numpy()


def rate_line(name: str, requests: pd.DataFrame, took_s: float) -> str:
    """One line: how many requests a second of computing."""
    return f"{name:46}{len(requests):>10,}{took_s:>10.3f}{len(requests) / took_s:>14,.0f}"


def print_rates(server: Server, rng: np.random.Generator) -> None:
    """Print the rates of our engine and of the others."""
    day, short = poisson(RATE_PER_S, DAY_S, rng), poisson(RATE_PER_S, SHORT_S, rng)
    simulate(short, server)  # what is compiled, is
    title = f"one server at {RATE_PER_S:g} requests/s"
    print(f"\n{title:46}{'requests':>10}{'s':>10}{'requests/s':>14}")
    print(rate_line("engine, a day", day, run_ours(day, server)[0]))
    took_s, ended_s = run_ours(short, server)
    print(rate_line(f"engine, {SHORT_S:g} s", short, took_s))
    if not has_vidur():
        print("vidur: not installed (pip install vidur)")
        return
    took_s, ended_there_s = run_vidur(short, server)
    apart_s = np.abs(ended_there_s - ended_s)
    print(rate_line(f"vidur {version('vidur')}, the same {SHORT_S:g} s", short, took_s))
    print(
        f"ends of requests, vidur beside engine: {np.median(apart_s):.1g} s apart (median), "
        f"{apart_s.max():.1g} s at most"
    )
