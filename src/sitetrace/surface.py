"""Watts of an engine's step: decode at a batch size, prefill that saturates with its tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sitetrace.activity import amount_in_bins
from sitetrace.timeline import Timeline


@dataclass(frozen=True)
class Surface:
    """Power of a server by what its engine does.

    Parameters
    ----------
    idle_w : float
        Without work, watts.
    decode_w : float
        Decoding, before any sequence is counted, watts.
    per_sequence_w : float
        Added by each decoding sequence, watts.
    prefill_w : float
        Limit for a step with very many prompt tokens, watts.
    scale_tokens : float
        Prompt tokens at which 63% of the way to that limit are gone.
    """

    idle_w: float
    decode_w: float
    per_sequence_w: float
    prefill_w: float
    scale_tokens: float

    def step_power_w(self, batch: np.ndarray, prefill_tokens: np.ndarray) -> np.ndarray:
        """Power while a step runs.

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
            ``d = decode_w + per_sequence_w batch``; without prompt tokens it is d.
        """
        decode_w = self.decode_w + self.per_sequence_w * np.asarray(batch, dtype=float)
        share = -np.expm1(-np.asarray(prefill_tokens, dtype=float) / self.scale_tokens)
        return decode_w + (self.prefill_w - decode_w) * share

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
        power_w = self.step_power_w(segments["batch"], segments["prefill_tokens"])
        above_j = amount_in_bins(segments, (power_w - self.idle_w) * length_s, end_times_s, dt_s)
        return self.idle_w + above_j / dt_s
