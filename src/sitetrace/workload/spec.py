"""The traffic part of a scenario, the stream that it opens, and its fit to a recorded one."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError

from sitetrace.core.files import InputError, require
from sitetrace.core.settings import Number, Part, Text, first_fault
from sitetrace.workload import streams
from sitetrace.workload.clients import open_clients
from sitetrace.workload.streams import DAY_S, Table, whole
from sitetrace.workload.table import TOKENS, read_requests

LEAST_REQUESTS, LEAST_WINDOWS, LEAST_CV, MOST_CV = 20, 3, 0.05, 50.0
RATE = "mean requests a second and server of the pool"
SCALED = f"{RATE}, to which the whole stream is scaled; else as recorded"
LENGTHS = "request table (CSV) whose rows are drawn for token lengths, or a mapping with the "
LENGTHS += "numbers of a log-normal law; else those of shared chats"
ROUTING = "how requests reach the servers: random, round_robin, least_loaded or session"
Routing = Literal["random", "round_robin", "least_loaded", "session"]
CV = "coefficient of variation of the pool's gaps; 1 is Poisson"
GIVEN = Discriminator(lambda given: "file" if isinstance(given, str) else "LogNormalLengths")
GivenLaw = Annotated[streams.LogNormalLengths, Tag("LogNormalLengths")]
GivenLengths = Annotated[GivenLaw | Annotated[Text, Tag("file")], GIVEN]
Rate = Annotated[Number, Field(gt=0, le=streams.MAX_RATE)]
MAX_HOURS, OFFSET = 24 * 366, "hours into the recording at second 0"
Offset = Annotated[Number, Field(ge=0, le=MAX_HOURS, description=OFFSET)]


class _Pattern(Part):
    pattern: str
    routing: Routing = Field("random", description=ROUTING)


class _Law(_Pattern):
    rate_per_server: Rate = Field(description=RATE)
    lengths: GivenLengths | None = Field(None, description=LENGTHS)


class PoissonTraffic(_Law):
    """Arrivals at a constant rate, independent of each other."""

    pattern: Literal["poisson"] = Field("poisson", description="poisson")


class BurstyTraffic(_Law):
    """Arrivals of the pool with gamma-distributed gaps."""

    pattern: Literal["bursty"] = Field("bursty", description="bursty")
    cv: Number = Field(2.0, gt=0, le=100, description=CV)


class DiurnalTraffic(_Law):
    """Poisson arrivals whose rate is a cosine of the hour of day."""

    pattern: Literal["diurnal"] = Field("diurnal", description="diurnal")
    swing: Number = Field(0.5, ge=0, le=1, description="greatest rate less the mean, over the mean")
    peak_hour: Number = Field(15.0, ge=0, le=24, description="local hour of day of the maximum")


class ReplayTraffic(_Pattern):
    """A recorded stream of requests for the whole pool, from its beginning again when it ends."""

    pattern: Literal["replay"] = Field("replay", description="replay")
    file: Text = Field(description="CSV with arrival_s,input_tokens,output_tokens[,session]")
    thin: Number = Field(1.0, gt=0, le=1, description="share of requests kept")
    speed: Number = Field(1.0, gt=0, le=1000, description="time-warp: 2 replays twice as fast")
    offset_h: Offset = 0.0


class ClientsTraffic(_Pattern):
    """Many clients, each with its own rate and burstiness by windows of production traffic."""

    pattern: Literal["clients"] = Field("clients", description="clients")
    file: Text = Field(description="CSV of rates by client and window, in ServeGen's form")
    lengths: Text = Field(description="CSV of token-length summaries by client")
    rate_per_server: Rate | None = Field(None, description=SCALED)
    offset_h: Offset = 0.0


Patterns = PoissonTraffic | BurstyTraffic | DiurnalTraffic | ReplayTraffic | ClientsTraffic
Traffic = Annotated[Patterns, Field(discriminator="pattern")]


def check_traffic(section: dict[str, Any]) -> Traffic:
    """Check a traffic section that stands in no scenario."""
    try:
        return TypeAdapter(Traffic).validate_python(section)
    except ValidationError as error:
        keys, why = first_fault(error, section)
        raise InputError(f"{'.'.join(['traffic', *map(str, keys)])}: {why}") from None


def open_stream(
    traffic: Traffic, n_servers: int, folder: Path | str, start_hour: float
) -> streams.Stream:
    """Open the stream of requests of a pool of servers; second 0 is at an hour of the day."""
    if traffic.pattern == "clients":
        rate_per_s = traffic.rate_per_server and n_servers * traffic.rate_per_server
        files = Path(folder, traffic.file), Path(folder, traffic.lengths)
        return open_clients(*files, rate_per_s, traffic.offset_h * streams.HOUR_S)
    if traffic.pattern == "replay":
        path, offset_s = Path(folder, traffic.file), traffic.offset_h * streams.HOUR_S
        stream = streams.Replay(read_requests(path), traffic.thin, traffic.speed, offset_s)
        require(stream.after_s[-1], path, "all requests arrive at once", "give a longer one")
        rate = traffic.thin * traffic.speed * stream.after_s.size / stream.period_s / n_servers
        what = f"{rate:.3g} requests a second and server are more than {streams.MAX_RATE}"
        require(rate <= streams.MAX_RATE, path, what, "give a longer recording or a lower speed")
        return stream
    lengths = streams.open_lengths(traffic.lengths, folder)
    if traffic.pattern == "bursty":
        return streams.Bursty(n_servers * traffic.rate_per_server, traffic.cv, lengths)
    day = (traffic.swing, traffic.peak_hour, start_hour) if traffic.pattern == "diurnal" else ()
    return streams.Poisson(n_servers, traffic.rate_per_server, lengths, *day)


def fit_traffic(requests: Table, scale_s: float | None = None, begin_hour: float = 0.0) -> dict:
    """Fit a section: hours' swing from two days on, else gaps' spread or `scale_s` dispersion."""
    arrival_s = requests["arrival_s"].to_numpy()
    few = arrival_s.size < LEAST_REQUESTS or arrival_s[-1] == arrival_s[0]
    mend = f"give {LEAST_REQUESTS} that do not arrive at once"
    require(not few, "fit", f"{arrival_s.size} requests are too few to fit", mend)
    gaps_s, span_s = np.diff(arrival_s), arrival_s[-1] - arrival_s[0]
    fitted = {"pattern": "bursty", "rate_per_server": 1 / gaps_s.mean()}
    if (days := int((span_s + gaps_s.mean()) // DAY_S)) >= 2:
        require(scale_s is None, "scale_s", "a day's swing has none", "leave it out")
        of_days_s = arrival_s[arrival_s < arrival_s[0] + days * DAY_S]
        harmonic = 2 * np.exp(2j * np.pi * of_days_s / DAY_S).mean()
        hour = (np.angle(harmonic) / (2 * np.pi) * 24 + begin_hour) % 24
        fitted |= {"pattern": "diurnal", "swing": min(1.0, abs(harmonic)), "peak_hour": hour}
    else:
        cv = gaps_s.std() / gaps_s.mean()
        if scale_s is not None:
            cv = np.sqrt(index_of_dispersion(arrival_s, scale_s))
            mend = f"give so short windows that {LEAST_WINDOWS} fit into {span_s:g} s"
            require(not np.isnan(cv), f"scale_s {scale_s:g} s", "no window", mend)
        fitted["cv"] = np.clip(cv, LEAST_CV, MOST_CV)
    logarithm, lengths = np.log(requests[[*TOKENS]]), {}
    for side, column in zip(("input", "output"), TOKENS, strict=True):
        lengths[f"{side}_median"] = np.exp(logarithm[column].mean())
        lengths[f"{side}_sigma"] = logarithm[column].std(ddof=0)
        lengths[f"{side}_limit"] = int(requests[column].max())
    constant = logarithm.nunique().min() == 1
    lengths["correlation"] = 0.0 if constant else logarithm.corr().iloc[0, 1].clip(-1, 1)
    # six digits, as plain numbers that YAML can write
    text = json.dumps(fitted | {"lengths": lengths}, default=float)
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.6g}"))


def draw_traffic(section: dict, duration_s: float, seed: int, begin_hour: float = 0.0) -> Table:
    """Draw requests of one server from a traffic section of a scenario or of `fit_traffic`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return whole(open_stream(check_traffic(section), 1, ".", begin_hour), duration_s, rng)


def index_of_dispersion(arrival_s: np.ndarray, window_s: float) -> float:
    """Return variance over mean of the counts in windows: 1 for Poisson, NaN for too few."""
    windows = (arrival_s[-1] - arrival_s[0]) // window_s if window_s > 0 else 0
    if windows < LEAST_WINDOWS:
        return np.nan
    counts = np.diff(np.searchsorted(arrival_s, arrival_s[0] + window_s * np.arange(windows + 1)))
    return float(counts.var(ddof=1) / counts.mean())
