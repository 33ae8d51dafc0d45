"""Requests a second: our engine beside another public simulator of LLM serving on the same ones.

Vidur (https://pypi.org/project/vidur) is given the law of our engine's steps in place of profiles
that it downloads, and the same limits: each request ends when it ends with us, which is printed.
Its rate falls with the tokens of the answers, not with the requests: a short stream will do.
"""

import logging
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from bench_site import best_s

from sitetrace.serving.engine import simulate
from sitetrace.workload.streams import poisson

BLOCK_TOKENS = 16
RATE_PER_S, DAY_S, SHORT_S = 0.5, 86400.0, 1000.0


def law_predictor(server):
    """Make vidur's predictor of step times from the law of our engine."""
    from vidur._native.entities import ExecutionTime
    from vidur.execution_time_predictor import BaseExecutionTimePredictor

    class LawPredictor(BaseExecutionTimePredictor):
        def get_execution_time(self, batch, pipeline_stage):
            step_s = server.c0_s
            parts = zip(batch.requests, batch.num_q_tokens, batch.num_kv_tokens, strict=True)
            for request, new, tokens in parts:
                if request.is_prefill_complete:
                    step_s += server.c1_s + server.c3_s * tokens
                else:
                    step_s += server.c2_s * new + server.c4_s * new * (tokens - new / 2)
            # one layer that takes the whole step, in milliseconds, in the first of its 14 parts
            return ExecutionTime(1, 1e3 * step_s, *[0.0] * 13)

    LawPredictor.__abstractmethods__ = frozenset()  # parts that vidur would add up
    return LawPredictor


def replay_generator(requests):
    """Make vidur's generator of requests from a table of them."""
    from vidur.entities import Request
    from vidur.request_generator.base_request_generator import BaseRequestGenerator

    columns = [requests[n].tolist() for n in ("arrival_s", "input_tokens", "output_tokens")]

    class Replay(BaseRequestGenerator):
        def generate_requests(self):
            self.config.made = [Request(*row) for row in zip(*columns, strict=True)]
            return self.config.made

    return Replay


def vidur_config(requests, server, folder):
    """One replica with the limits of our engine, and nothing written."""
    from vidur import config

    blocks = {"block_size": BLOCK_TOKENS, "num_blocks": server.kv_tokens // BLOCK_TOKENS}
    limits = {"batch_size_cap": server.max_num_seqs, "chunk_size": server.max_num_batched_tokens}
    longest = int((requests["input_tokens"] + requests["output_tokens"]).max())
    written = "request_metrics", "batch_metrics", "utilization_metrics", "plots"
    written = ["write_metrics", "enable_chrome_trace", *(f"store_{name}" for name in written)]
    lengths = config.FixedRequestLengthGeneratorConfig(max_tokens=longest)
    cluster = config.ClusterConfig(
        replica_config=config.ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1),
        cache_config=config.CacheConfig(watermark_blocks_fraction=0.0, **blocks),
        replica_scheduler_config=config.SarathiSchedulerConfig(**limits),
    )
    return config.SimulationConfig(
        cluster_config=cluster,
        request_generator_config=config.SyntheticRequestGeneratorConfig(
            length_generator_config=lengths
        ),
        metrics_config=config.MetricsConfig(output_dir=folder, **dict.fromkeys(written, False)),
    )


def run_vidur(requests, server):
    """Serve requests with vidur: seconds that it took, and when each of them ended."""
    from vidur.entities import Replica
    from vidur.execution_time_predictor import ExecutionTimePredictorRegistry as Predictors
    from vidur.request_generator import RequestGeneratorRegistry as Generators
    from vidur.simulator import Simulator
    from vidur.types import ExecutionTimePredictorType, RequestGeneratorType

    logging.getLogger("vidur").setLevel(logging.ERROR)
    Replica._id = -1  # a second run in one process has to count its replicas from 0 again
    for registry, kind, plug in (
        (Predictors, ExecutionTimePredictorType["RANDOM_FORREST"], law_predictor(server)),
        (Generators, RequestGeneratorType["SYNTHETIC"], replay_generator(requests)),
    ):
        registry.unregister(kind)
        registry.register(kind, plug)
    with tempfile.TemporaryDirectory() as folder:
        config = vidur_config(requests, server, folder)
        begin = time.perf_counter()
        Simulator(config).run()
        took_s = time.perf_counter() - begin
    made = config.request_generator_config.made
    return took_s, np.array([request.completed_at for request in made])


def print_rates(server, rng):
    """Print the rates of our engine and of the other."""
    day, short = poisson(RATE_PER_S, DAY_S, rng), poisson(RATE_PER_S, SHORT_S, rng)
    ended_s = simulate(short, server).requests["end_s"]  # what is compiled, is
    print(f"\n{'one server, half a request/s':46}{'requests':>10}{'s':>10}{'requests/s':>14}")

    def report(name, requests, took_s):
        print(f"{name:46}{len(requests):>10,}{took_s:>10.3f}{len(requests) / took_s:>14,.0f}")

    report("engine, a day", day, best_s(lambda: simulate(day, server)))
    report(f"engine, {SHORT_S:g} s", short, best_s(lambda: simulate(short, server)))
    if find_spec("vidur") is None:
        print("vidur: not installed (pip install vidur)")
        return
    took_s, ended_there_s = run_vidur(short, server)
    apart_s = np.abs(ended_there_s - ended_s)
    report(f"vidur {version('vidur')}, the same {SHORT_S:g} s", short, took_s)
    apart = f"{np.median(apart_s):.1g} s apart (median), {apart_s.max():.1g} s at most"
    print(f"ends of requests, vidur beside engine: {apart}")
