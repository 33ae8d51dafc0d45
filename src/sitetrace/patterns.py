"""Traffic as a scenario names it: one model a pattern, each with the keys that it has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sitetrace.checked import Number, Part, Text

MAX_HOURS = 24 * 366
Rate = Annotated[Number, Field(gt=0, le=1000)]
Routing = Literal["random", "round_robin", "least_loaded", "session"]
RATE = "mean requests a second and server of the pool"
LENGTHS = "request table (CSV) whose rows are drawn for token lengths; else those of shared chats"
ROUTING = "how requests reach the servers: random, round_robin, least_loaded or session"


class Poisson(Part):
    """Arrivals at a constant rate, independent of each other."""

    pattern: Literal["poisson"] = Field("poisson", description="poisson")
    rate_per_server: Rate = Field(description=RATE)
    lengths: Text | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class Bursty(Part):
    """Arrivals of the pool with gamma-distributed gaps."""

    pattern: Literal["bursty"] = Field("bursty", description="bursty")
    rate_per_server: Rate = Field(description=RATE)
    cv: Number = Field(
        2.0, gt=0, le=100, description="coefficient of variation of the pool's gaps; 1 is Poisson"
    )
    lengths: Text | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class Diurnal(Part):
    """Poisson arrivals whose rate is a cosine of the hour of day."""

    pattern: Literal["diurnal"] = Field("diurnal", description="diurnal")
    rate_per_server: Rate = Field(description=RATE)
    swing: Number = Field(0.5, ge=0, le=1, description="greatest rate less the mean, over the mean")
    peak_hour: Number = Field(15.0, ge=0, le=24, description="local hour of day of the maximum")
    lengths: Text | None = Field(None, description=LENGTHS)
    routing: Routing = Field("random", description=ROUTING)


class Replay(Part):
    """A recorded stream of requests for the whole pool, from its beginning again when it ends."""

    pattern: Literal["replay"] = Field("replay", description="replay")
    file: Text = Field(description="CSV with arrival_s,input_tokens,output_tokens")
    thin: Number = Field(1.0, gt=0, le=1, description="share of requests kept")
    speed: Number = Field(1.0, gt=0, le=1000, description="time-warp: 2 replays twice as fast")
    offset_h: Number = Field(
        0.0, ge=0, le=MAX_HOURS, description="hours into the recording at second 0"
    )
    lengths: Text | None = Field(
        None, description="request table (CSV) whose rows are drawn for token lengths; else its own"
    )
    routing: Routing = Field("random", description=ROUTING)


class Clients(Part):
    """Many clients, each with its own rate and burstiness by windows of production traffic."""

    pattern: Literal["clients"] = Field("clients", description="clients")
    file: Text = Field(description="CSV of rates by client and window, in ServeGen's form")
    lengths: Text | None = Field(
        None, description="CSV of token-length summaries by client; else those of shared chats"
    )
    rate_per_server: Rate | None = Field(
        None, description=f"{RATE}, to which the whole stream is scaled; else as recorded"
    )
    offset_h: Number = Field(
        0.0, ge=0, le=MAX_HOURS, description="hours into the recording at second 0"
    )
    routing: Routing = Field("random", description=ROUTING)


Traffic = Annotated[Poisson | Bursty | Diurnal | Replay | Clients, Field(discriminator="pattern")]
