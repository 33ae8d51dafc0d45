"""Watts of an engine's step: decode at a batch size, prefill that saturates with its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sitetrace.activity import amount_in_bins
from sitetrace.serving import LINEAR, counted
from sitetrace.timeline import Timeline

WARM_S = 20.0
LIMIT_S = 0.5
# finite, so that a model file can hold it
LIMITLESS_W = 1e6


@dataclass(frozen=True)
class Surface:
    """Power of a server by what its engine does.

    Parameters
    ----------
    idle_w : float
        Without work, watts.
    decode_w : float
        Decoding on a cold board, before any sequence is counted, watts.
    per_sequence_w : float
        Added by each decoding sequence, watts.
    prefill_w : float
        Limit for a step with very many prompt tokens, watts.
    scale_tokens : float
        Prompt tokens at which 63% of the way to that limit are gone.
    warm_w : float
        Added to decoding on a warm board, watts: a first-order term that saturates, with a time
        constant of 20 s of work, and fades as fast without it.
    batch_scale : float
        Sequences from which on one more adds ever less: the batch counts as
        ``batch_scale ln(1 + batch/batch_scale)``, which is the batch itself without a scale.
    limit_w : float
        What the board holds its power to when prefill would stay above for half a second, watts.
    warm_idle_w : float
        Added to idle on a warm board, watts: it fades with the time constant of warming up.
    """

    idle_w: float
    decode_w: float
    per_sequence_w: float
    prefill_w: float
    scale_tokens: float
    warm_w: float = 0.0
    batch_scale: float = LINEAR
    limit_w: float = LIMITLESS_W
    warm_idle_w: float = 0.0

    def step_power_w(self, batch: np.ndarray, prefill_tokens: np.ndarray) -> np.ndarray:
        """Power while a step runs on a cold board.

        Parameters
        ----------
        batch : numpy.ndarray
            Sequences that decode, shape (n,).
        prefill_tokens : numpy.ndarray
            Prompt tokens computed in the step, shape (n,).

        Returns
        -------
        numpy.ndarray
            Watts, shape (n,): ``d + (prefill_w - d) (1 - exp(-tokens/scale))`` with
            ``d = decode_w + per_sequence_w counted(batch)``; without prompt tokens it is d.
        """
        decode_w = self.decode_w + self.per_sequence_w * counted(batch, self.batch_scale)
        return decode_w + (self.prefill_w - decode_w) * self.saturation(prefill_tokens)

    def saturation(self, prefill_tokens: np.ndarray) -> np.ndarray:
        """How far prompt tokens take a step from decoding to the limit of prefill.

        Parameters
        ----------
        prefill_tokens : numpy.ndarray
            Prompt tokens of steps, shape (n,).

        Returns
        -------
        numpy.ndarray
            0 to 1, shape (n,).
        """
        return -np.expm1(-np.asarray(prefill_tokens, dtype=float) / self.scale_tokens)

    def segment_power_w(
        self, start_s: np.ndarray, end_s: np.ndarray, batch: np.ndarray, prefill_tokens: np.ndarray
    ) -> np.ndarray:
        """Power of successive segments of work, warming up and limited.

        Parameters
        ----------
        start_s, end_s : numpy.ndarray
            Begin and end of each segment, seconds, shape (n,).
        batch, prefill_tokens : numpy.ndarray
            As in `sitetrace.timeline.Timeline`, shape (n,).

        Returns
        -------
        numpy.ndarray
            Mean watts of each segment, shape (n,).
        """
        from sitetrace.rendering import STATES, segment_power

        work = (start_s, end_s, batch, prefill_tokens)
        return segment_power(*work, *self.numbers(), np.zeros(STATES))

    def numbers(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Give the law and the scales as `sitetrace.rendering.segment_power` takes them.

        Returns
        -------
        law, scales : tuple of float
            Watts, and where power saturates.
        """
        law = (self.idle_w, self.decode_w, self.per_sequence_w, self.prefill_w, self.warm_w)
        return law, (self.scale_tokens, self.batch_scale, WARM_S, self.limit_w, LIMIT_S)

    def above_idle_w(self, segments: pd.DataFrame) -> np.ndarray:
        """Power of segments above that of an idle board.

        Parameters
        ----------
        segments : pandas.DataFrame
            As in `sitetrace.timeline.Timeline`.

        Returns
        -------
        numpy.ndarray
            Watts, shape (segments,).
        """
        names = ("start_s", "end_s", "batch", "prefill_tokens")
        columns = (segments[name].to_numpy(dtype=float) for name in names)
        return self.segment_power_w(*columns) - self.idle_w

    def mean_power_w(self, timeline: Timeline, end_times_s: np.ndarray, dt_s: float) -> np.ndarray:
        """Mean power of the bins ``[t - dt, t)``; energy is neither lost nor counted twice.

        Parameters
        ----------
        timeline : Timeline
            What the engine does.
        end_times_s : numpy.ndarray
            End of each bin, seconds, shape (n,).
        dt_s : float
            Length of a bin, seconds.

        Returns
        -------
        numpy.ndarray
            Watts, shape (n,).
        """
        segments = timeline.segments
        length_s = (segments["end_s"] - segments["start_s"]).to_numpy()
        above_j = amount_in_bins(
            segments, self.above_idle_w(segments) * length_s, end_times_s, dt_s
        )
        return self.idle_w + above_j / dt_s
