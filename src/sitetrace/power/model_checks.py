"""What a model file must hold for the model to generate: sizes, ranges, and nothing without end."""

from __future__ import annotations

from dataclasses import astuple
from fractions import Fraction

import numpy as np
import pandas as pd

from sitetrace.measured.rundir import MAX_POWER_W
from sitetrace.power.idle import Idle
from sitetrace.power.states.bigru import BiGRU
from sitetrace.power.states.labels import window_features
from sitetrace.power.states.mixture import KINDS, PHI_MAX, Emissions, Mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Coupled, Independent, Logit, Markov
from sitetrace.power.states.trees import WINDOW, Trees
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.serving.activity import COLUMNS
from sitetrace.serving.calibration import misfit_lines
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.workload.table import MAX_TOKENS

DT_RANGE_S = (Fraction(1, 1000), Fraction(3600))
LONGEST_S = 60.0
MOST_SEQUENCES = 1_000_000
MOST_TOKENS = 10**12
GREATEST = 1e9
LEAST_SCALE = 1e-9


def check_model(model: StatesModel | TimelineModel) -> None:
    """Refuse a model whose parts cannot work together: a ValueError names the part at fault."""
    low, high = DT_RANGE_S
    _demand(low <= model.dt <= high, f"dt_s is not between {float(low):g} and {float(high):g} s")
    _demand(model.configuration.tensor_parallel >= 1, "tensor_parallel is below 1")
    _check_server(model.server)
    if isinstance(model, TimelineModel):
        _check_timeline(model)
    else:
        _check_idle(model.idle, model.transitions)
        _check_mixture(model.mixture)
        _check_emissions(model.emissions, model.mixture.n_states)
        _check_transitions(model.transitions, model.mixture.n_states + 1)
    lowest, highest = model.power_range_w
    _demand(0 <= lowest <= highest <= MAX_POWER_W, "power_range_w is no range of power")
    for name, limit in model.fitted.items():
        known = isinstance(limit, int | float) and not isinstance(limit, bool)
        _demand(known and limit >= 0, f"fitted.{name} is no number")
    _check_provenance(model.provenance)


def _check_timeline(model: TimelineModel) -> None:
    """Demand powers that a server draws and times that a meter has."""
    _demand(isinstance(model.server, Server), "server: the kind timeline needs an engine")
    _check_idle(model.idle, None)
    surface, meter, noise = model.surface, model.meter, model.residual
    powers = [
        *(surface.idle_w, surface.decode_w, surface.per_sequence_w, surface.prefill_w),
        *(surface.warm_w, surface.limit_w, surface.warm_idle_w),
        *(noise.idle_w, noise.decode_w),
        *(meter.noise_w, meter.quantum_w),
    ]
    _watts(np.array(powers), (len(powers),), "surface, meter, residual")
    _demand(surface.idle_w == model.idle.mean_w, "surface: idle_w is not that of idle")
    _demand(0 < surface.scale_tokens <= MAX_TOKENS, "surface: scale_tokens is no number of tokens")
    _demand(0 < surface.batch_scale <= GREATEST, "surface: batch_scale is no number of sequences")
    _demand(0 < meter.window_s <= LONGEST_S, "meter: window_s is not a time up to a minute")
    _demand(meter.dt_s == float(model.dt), "meter: dt_s is not the model's step")
    _demand(abs(meter.lag_s) <= LONGEST_S, "meter: lag_s is not a time up to a minute")
    _demand(0 <= meter.update_s <= LONGEST_S, "meter: update_s is not a time up to a minute")
    _demand(0 <= noise.phi <= PHI_MAX, f"residual: phi is not a value from 0 to {PHI_MAX}")
    _demand(0 < model.decay_s <= LONGEST_S, "decay_s is not a time up to a minute")


def _demand(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(what)


def _watts(values: np.ndarray, shape: tuple[int, ...], what: str) -> None:
    """Refuse other shapes and what no server draws."""
    sound = values.shape == shape and (values >= 0).all() and (values <= MAX_POWER_W).all()
    _demand(bool(sound), f"{what} is not {shape} values of power")


def _check_server(server: Server | ConstantRate | LogNormalTTFT) -> None:
    if isinstance(server, Server):
        # the ranges below zero are refused by the server itself
        _demand(max(server.c0_s, server.overhead_s) <= LONGEST_S, "server: c0_s is minutes")
        _demand(max(astuple(server)[1:5]) <= 1.0, "server: a token would take seconds")
        _demand(server.batch_scale <= GREATEST, "server: batch_scale is no number of sequences")
        _demand(server.max_num_seqs <= MOST_SEQUENCES, "server: max_num_seqs is absurd")
        most = max(server.max_num_batched_tokens, server.kv_tokens)
        _demand(most <= MOST_TOKENS, "server: max_num_batched_tokens or kv_tokens is absurd")
    elif isinstance(server, ConstantRate):
        rates = astuple(server)
        _demand(1 / LONGEST_S <= min(rates) and max(rates) <= MOST_TOKENS, "server: absurd rates")
    else:
        with np.errstate(all="ignore"):
            size = np.log([1.0, MAX_TOKENS])
            mean = server.alpha + server.beta * size
            spread = np.hypot(server.s0, np.exp(server.gamma + server.delta * size))
        _demand(bool((np.abs(mean) < 50).all() and (spread < 50).all()), "server: absurd TTFT")
        _demand(0 < server.tpot_mean_s <= LONGEST_S, "server: tpot_mean_s is absurd")
        _demand(0 <= server.tpot_sd_s <= LONGEST_S, "server: tpot_sd_s is absurd")
        _demand(1 <= server.max_active <= MOST_SEQUENCES, "server: max_active is absurd")


def _check_idle(idle: Idle | None, transitions: object) -> None:
    if idle is None:
        never = isinstance(transitions, Coupled | Independent)
        _demand(never, "idle: is missing, and the transitions lead there")
        return
    values = np.array([idle.mean_w, idle.active_w, idle.band_w])
    _watts(values, (3,), "idle: mean_w, active_w, band_w")
    deviation = np.abs(idle.deviation_w)
    _demand(deviation.ndim == 1 and deviation.size > 0, "idle: deviation_w is no list of values")
    _demand(bool(deviation.max() <= MAX_POWER_W), "idle: deviation_w is no power")
    _demand(0 <= idle.hold_s <= LONGEST_S, "idle: hold_s is not a time up to a minute")


def _check_mixture(mixture: Mixture) -> None:
    _demand(mixture.mean_w.ndim == 1 and mixture.n_states >= 1, "mixture: holds no state")
    shape = (mixture.n_states,)
    _watts(mixture.mean_w, shape, "mixture: mean_w")
    _watts(mixture.sigma_w, shape, "mixture: sigma_w")
    _demand(bool((mixture.sigma_w > 0).all()), "mixture: sigma_w is not above zero")
    _check_weight(mixture.weight, mixture.n_states, "mixture")


def _check_weight(share: np.ndarray, k: int, what: str) -> None:
    sound = share.shape == (k,) and (share >= 0).all() and abs(share.sum() - 1) < 1e-6
    _demand(bool(sound), f"{what}: weight does not sum to one over the states")


def _check_emissions(emissions: Emissions, k: int) -> None:
    _demand(emissions.kind in KINDS, f"emissions: kind is none of {', '.join(KINDS)}")
    phi = emissions.phi
    sound = phi.shape == (k,) and (phi >= 0).all() and (phi <= PHI_MAX).all()
    _demand(bool(sound), f"emissions: phi is not {k} values from 0 to {PHI_MAX}")
    grid = emissions.quantile_w.shape[-1]
    _demand(grid >= 2, "emissions: quantile_w has fewer than two quantiles")
    _watts(emissions.quantile_w, (k, grid), "emissions: quantile_w")


def _check_transitions(transitions: object, n: int) -> None:
    if isinstance(transitions, Markov):
        _check_markov(transitions, n)
    elif isinstance(transitions, Coupled | Independent):
        _check_coupling(transitions, n)
    else:
        known = transitions.columns and all(name in COLUMNS for name in transitions.columns)
        _demand(bool(known), "transitions: columns are no activity columns")
        if isinstance(transitions, Trees):
            _check_trees(transitions, n)
        elif isinstance(transitions, BiGRU):
            _check_bigru(transitions, n)
        else:
            _check_logit(transitions)
    for amount in (0.0, 1.0):
        table = pd.DataFrame({name: [0.0, amount] for name in COLUMNS})
        matrix = transitions.matrix(table)
        sound = matrix.shape == (2, n, n) and np.abs(matrix.sum(axis=2) - 1).max() < 1e-6
        _demand(bool(sound), f"transitions: give no probabilities for {n} states")


def _check_markov(markov: Markov, n: int) -> None:
    _demand(markov.column in COLUMNS, "transitions: column is no activity column")
    _demand(markov.edges.ndim == 1, "transitions: edges is no list")
    _demand(bool((np.diff(markov.edges) > 0).all()), "transitions: edges do not ascend")
    p = markov.probability
    sound = p.shape == (markov.edges.size + 1, n, n) and (p >= 0).all()
    _demand(bool(sound and np.abs(p.sum(axis=2) - 1).max() < 1e-6), "transitions: probability")


def _check_coupling(transitions: Coupled | Independent, n: int) -> None:
    _check_weight(transitions.weight, n - 1, "transitions")
    if isinstance(transitions, Coupled):
        mean, sd = transitions.active_mean, transitions.active_sd
        _demand(0 < mean <= MOST_SEQUENCES, "transitions: active_mean is absurd")
        _demand(0 <= sd <= MOST_SEQUENCES, "transitions: active_sd is absurd")


def _check_logit(logit: Logit) -> None:
    flat = (logit.center, logit.scale, logit.intercept)
    _demand(all(part.ndim == 1 for part in flat), "transitions: numbers where lists should be")
    parts = (logit.center, logit.scale, logit.weight, logit.intercept, logit.lag)
    _demand(all(np.abs(part).max() <= GREATEST for part in parts), "transitions: absurd weights")
    _demand(bool((logit.scale >= LEAST_SCALE).all()), "transitions: scale is not above zero")


def _check_bigru(net: BiGRU, n: int) -> None:
    features, hidden = len(net.columns), net.hidden_weight.shape[-1]
    shapes = {
        "center": (features,),
        "scale": (features,),
        "input_weight": (2, 3 * hidden, features),
        "input_bias": (2, 3 * hidden),
        "hidden_weight": (2, 3 * hidden, hidden),
        "hidden_bias": (2, 3 * hidden),
        "head": (n, 2 * hidden),
        "head_bias": (n,),
    }
    for name, shape in shapes.items():
        part = getattr(net, name)
        _demand(part.shape == shape, f"transitions: {name} is not of shape {shape}")
        _demand(bool((np.abs(part) <= GREATEST).all()), f"transitions: {name} is absurd")
    _demand(bool((net.scale >= LEAST_SCALE).all()), "transitions: scale is not above zero")


def _check_trees(trees: Trees, n: int) -> None:
    """Children stand behind their parents, so that every walk ends in a leaf."""
    _demand(trees.prior.shape == (n,), f"transitions: prior is not of {n} states")
    _demand(trees.roots.ndim == 2 and trees.roots.shape[1] == n, "transitions: roots")
    nodes = (trees.feature, trees.left, trees.right, trees.value)
    _demand(
        len({part.shape for part in nodes}) == 1 and trees.value.ndim == 1, "transitions: nodes"
    )
    whole = (trees.roots, trees.feature, trees.left, trees.right)
    _demand(all(part.dtype.kind == "i" for part in whole), "transitions: a node is no whole number")
    size = trees.value.size
    here, inner = np.arange(size), trees.feature >= 0
    _demand(bool((trees.roots < size).all()), "transitions: a root is no node")
    # the previous state comes after the features of the window
    one_bin = dict.fromkeys(trees.columns, [0.0])
    n_features = window_features(one_bin, trees.columns, WINDOW).shape[1]
    _demand(bool((trees.feature <= n_features).all()), "transitions: a feature is not there")
    for below in (trees.left[inner], trees.right[inner]):
        sound = (below > here[inner]) & (below < size)
        _demand(bool(sound.all()), "transitions: a branch does not lead on to a node")
    _demand(bool((np.abs(trees.prior) <= GREATEST).all()), "transitions: prior is absurd")
    _demand(bool((np.abs(trees.value) <= GREATEST).all()), "transitions: value is absurd")


def _check_provenance(provenance: dict) -> None:
    """Demand what the command prints."""
    _demand(isinstance(provenance["data"], str), "provenance.data is no text")
    for run in provenance["runs"]:
        _demand(isinstance(run["name"], str), "provenance.runs.name is no text")
        _demand(isinstance(run["sha256"], str), "provenance.runs.sha256 is no text")
    for rows in provenance["selection"].values():
        _demand(all(isinstance(row, dict) for row in rows), "provenance.selection is no table")
    try:
        misfit_lines(provenance)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ValueError("provenance: calibration, power or defaults are damaged") from None
