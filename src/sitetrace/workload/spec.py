"""The traffic part of a scenario, and the stream that it opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from sitetrace.core.files import InputError
from sitetrace.core.settings import Number, Part, Text
from sitetrace.workload.clients import open_clients
from sitetrace.workload.lengths import LogNormalLengths as Law
from sitetrace.workload.lengths import open_lengths
from sitetrace.workload.streams import HOUR_S, MAX_RATE, Bursty, Poisson, Replay, Stream
from sitetrace.workload.table import MAX_TOKENS, read_requests

MAX_HOURS = 24 * 366
Rate = Annotated[Number, Field(gt=0, le=MAX_RATE)]
Tokens = Annotated[Number, Field(ge=1, le=MAX_TOKENS)]
Sigma = Annotated[Number, Field(ge=0, le=10)]
Offset = Annotated[Number, Field(ge=0, le=MAX_HOURS)]
Routing = Literal["random", "round_robin", "least_loaded", "session"]
RATE = "mean requests a second and server of the pool"
OFFSET = "hours into the recording at second 0"
LENGTHS = (
    "request table (CSV) whose rows are drawn for token lengths, or a mapping with the numbers of "
    "a log-normal law; else those of shared chats"
)
ROUTING = "how requests reach the servers: random, round_robin, least_loaded or session"


class LengthLaw(Part):
    """Log-normal token lengths, as `sitetrace.workload.fit_traffic` finds them."""

    input_median: Tokens = Field(Law.input_median, description="median prompt, tokens")
    input_sigma: Sigma = Field(Law.input_sigma, description="spread of its logarithm")
    input_limit: Tokens = Field(Law.input_limit, description="longest prompt, tokens")
    output_median: Tokens = Field(Law.output_median, description="median answer, tokens")
    output_sigma: Sigma = Field(Law.output_sigma, description="spread of its logarithm")
    output_limit: Tokens = Field(Law.output_limit, description="longest answer, tokens")
    correlation: Number = Field(0.0, ge=-1, le=1, description="of the two logarithms")


def _length_form(value: Any) -> str:
    return "LengthLaw" if isinstance(value, dict | LengthLaw) else "file"


GivenLengths = Annotated[
    Annotated[LengthLaw, Tag("LengthLaw")] | Annotated[Text, Tag("file")],
    Discriminator(_length_form),
]


class PoissonTraffic(Part):
    """Arrivals at a constant rate, independent of each other."""

    pattern: Literal["poisson"] = Field("poisson", description="poisson")
    rate_per_server: Rate = Field(description=RATE)
    lengths: GivenLengths | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class BurstyTraffic(Part):
    """Arrivals of the pool with gamma-distributed gaps."""

    pattern: Literal["bursty"] = Field("bursty", description="bursty")
    rate_per_server: Rate = Field(description=RATE)
    cv: Number = Field(
        2.0, gt=0, le=100, description="coefficient of variation of the pool's gaps; 1 is Poisson"
    )
    lengths: GivenLengths | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class DiurnalTraffic(Part):
    """Poisson arrivals whose rate is a cosine of the hour of day."""

    pattern: Literal["diurnal"] = Field("diurnal", description="diurnal")
    rate_per_server: Rate = Field(description=RATE)
    swing: Number = Field(0.5, ge=0, le=1, description="greatest rate less the mean, over the mean")
    peak_hour: Number = Field(15.0, ge=0, le=24, description="local hour of day of the maximum")
    lengths: GivenLengths | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class ReplayTraffic(Part):
    """A recorded stream of requests for the whole pool, from its beginning again when it ends."""

    pattern: Literal["replay"] = Field("replay", description="replay")
    file: Text = Field(description="CSV with arrival_s,input_tokens,output_tokens[,session]")
    thin: Number = Field(1.0, gt=0, le=1, description="share of requests kept")
    speed: Number = Field(1.0, gt=0, le=1000, description="time-warp: 2 replays twice as fast")
    offset_h: Offset = Field(0.0, description=OFFSET)
    routing: Routing = Field("random", description=ROUTING)


class ClientsTraffic(Part):
    """Many clients, each with its own rate and burstiness by windows of production traffic."""

    pattern: Literal["clients"] = Field("clients", description="clients")
    file: Text = Field(description="CSV of rates by client and window, in ServeGen's form")
    lengths: Text = Field(description="CSV of token-length summaries by client")
    rate_per_server: Rate | None = Field(
        None, description=f"{RATE}, to which the whole stream is scaled; else as recorded"
    )
    offset_h: Offset = Field(0.0, description=OFFSET)
    routing: Routing = Field("random", description=ROUTING)


Traffic = Annotated[
    PoissonTraffic | BurstyTraffic | DiurnalTraffic | ReplayTraffic | ClientsTraffic,
    Field(discriminator="pattern"),
]


def open_stream(traffic: Any, n_servers: int, folder: Path | str, start_hour: float) -> Stream:
    """Open the stream of requests that a pool of servers gets.

    `traffic` has the keys of its pattern; `start_hour` is the hour of the day at second 0.
    """
    folder = Path(folder)
    if traffic.pattern == "replay":
        return _open_replay(traffic, n_servers, folder)
    if traffic.pattern == "clients":
        return open_clients(traffic, n_servers, folder)
    lengths = open_lengths(traffic.lengths, folder)
    if traffic.pattern == "bursty":
        return Bursty(n_servers * traffic.rate_per_server, traffic.cv, lengths)
    if traffic.pattern == "diurnal":
        day = (traffic.swing, traffic.peak_hour, start_hour)
        return Poisson(n_servers, traffic.rate_per_server, lengths, *day)
    if traffic.pattern == "poisson":
        return Poisson(n_servers, traffic.rate_per_server, lengths)
    raise InputError(
        f"traffic: pattern {traffic.pattern!r} is unknown: "
        "give poisson, bursty, diurnal, replay or clients"
    )


def _open_replay(traffic: Any, n_servers: int, folder: Path) -> Replay:
    """Read a recorded stream of requests, which has to last some time."""
    table = read_requests(folder / traffic.file)
    arrival_s = table["arrival_s"].to_numpy()
    if arrival_s[0] == arrival_s[-1]:
        raise InputError(f"{folder / traffic.file}: all requests arrive at once: give a longer one")
    stream = Replay(
        arrival_s - arrival_s[0],
        table[["input_tokens", "output_tokens"]].to_numpy(),
        table["session"].to_numpy() if "session" in table else None,
        traffic.thin,
        traffic.speed,
        traffic.offset_h * HOUR_S,
    )
    rate = traffic.thin * traffic.speed * arrival_s.size / stream.period_s / n_servers
    if rate > MAX_RATE:
        raise InputError(
            f"{folder / traffic.file}: {rate:.3g} requests a second and server are more than "
            f"{MAX_RATE}: give a longer recording or a lower speed"
        )
    return stream
