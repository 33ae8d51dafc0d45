"""Model files: one self-contained JSON, the same bytes for the same fit; and models in words.

Only the weights of a net lie beside it, in an ``.npz`` of its name, whose digest the JSON holds.
"""

import hashlib
import io
import json
import zipfile
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np

from sitetrace.core.files import InputError, named, read_json, replacing, require
from sitetrace.core.types import Configuration, parse_step
from sitetrace.measured.rundir import MAX_POWER_W
from sitetrace.meter import Meter, PowerNoise
from sitetrace.power.idle import Idle
from sitetrace.power.states import transitions as kinds
from sitetrace.power.states.bigru import WEIGHTS, BiGRU
from sitetrace.power.states.mixture import KINDS, PHI_MAX, Emissions, Mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Coupled, Independent, Logit, Markov, Trees
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.activity import COLUMNS
from sitetrace.serving.calibration import misfit_lines
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT
from sitetrace.workload.table import MAX_TOKENS

SCHEMA = 1
SERVERS = {"engine": Server, "constant_rate": ConstantRate, "log_normal_ttft": LogNormalTTFT}
TRANSITIONS = {"markov": Markov, "logit": Logit, "trees": Trees, "bigru": BiGRU}
TRANSITIONS |= {"coupled": Coupled, "independent": Independent}
# what the two kinds of model are made of, in the order of the file
SHARED = {"configuration": Configuration, "server": SERVERS, "idle": Idle}
PARTS = {
    "timeline": SHARED | {"surface": Surface, "meter": Meter, "residual": PowerNoise},
    "states": SHARED | {"mixture": Mixture, "transitions": TRANSITIONS, "emissions": Emissions},
}
# least and greatest value of a field: by its name, else by its unit, else up to what none needs
LEAST, GREATEST = 1e-9, 1e9
RANGES = {
    **dict.fromkeys(("tensor_parallel", "max_num_seqs", "max_active"), (1, 1e6)),
    **dict.fromkeys(("window_s", "tpot_mean_s", "decay_s"), (LEAST, 60)),
    **dict.fromkeys(("prefill_tok_s", "decode_tok_s"), (1 / 60, 1e12)),
    **dict.fromkeys(("scale", "batch_scale", "scale_tokens", "active_mean"), (LEAST, GREATEST)),
}
RANGES |= {"active_sd": (0, GREATEST), "dt_s": (1e-3, 3600), "lag_s": (-60, 60)}
RANGES |= {"deviation_w": (-MAX_POWER_W, MAX_POWER_W), "sigma_w": (LEAST, MAX_POWER_W)}
RANGES |= {"phi": (0, PHI_MAX), "probability": (0, 1)}
UNITS = {"_s": (0, 60), "_w": (0, MAX_POWER_W), "tokens": (0, 1e12)}
# sizes of arrays: k states, s with idle, g and d by a net's h; other letters: what the first says
SHAPES = {
    **dict.fromkeys(("mean_w", "sigma_w", "phi", "weight"), "k"),
    **dict.fromkeys(("prior", "intercept", "head_bias"), "s"),
    **dict.fromkeys(("feature", "left", "right", "value"), "n"),
    **dict.fromkeys(("center", "scale"), "f"),
    **dict.fromkeys(("input_bias", "hidden_bias"), "2g"),
}
SHAPES |= {"deviation_w": "i", "quantile_w": "kq", "edges": "e", "probability": "lss", "lag": "ss"}
SHAPES |= {"roots": "rs", "input_weight": "2gf", "hidden_weight": "2gh", "head": "sd"}
DAMAGE = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError)
DAMAGE += (OSError, EOFError, MemoryError, zipfile.BadZipFile)  # what a damaged file raises


def save_model(model: StatesModel | TimelineModel, path: Path | str) -> None:
    """Write a model file (and the weights of a net beside it), whole or not at all.

    Parameters
    ----------
    model : StatesModel or TimelineModel
        The model.
    path : Path or str
        Conventionally ``.json``; an `InputError` says why it cannot be written.
    """
    kind = "timeline" if isinstance(model, TimelineModel) else "states"
    content = {"schema": SCHEMA, "kind": kind}
    for name, types in PARTS[kind].items():
        part = getattr(model, name)
        told = {"kind": _kind(part, types)} if isinstance(types, dict) else {}
        content[name] = None if part is None else told | asdict(part)
        if name == "configuration":
            content["dt_s"] = f"{model.dt.numerator}/{model.dt.denominator}"
    for name in ("decay_s", "power_range_w", "fitted", "provenance"):
        if hasattr(model, name):
            content[name] = getattr(model, name)
    net = isinstance(getattr(model, "transitions", None), BiGRU)
    weights = replacing(weights_path(path)) if net else nullcontext()
    with weights as beside, replacing(path) as temporary:
        if net:
            arrays = {name: content["transitions"].pop(name) for name in WEIGHTS}
            # numpy gives every entry the same time, so that bytes follow from content
            np.savez(beside, **{name: np.ascontiguousarray(each) for name, each in arrays.items()})
            digest = hashlib.sha256(beside.read_bytes()).hexdigest()
            content["transitions"]["weights_sha256"] = digest
        # numbers and arrays of numpy become plain
        text = json.dumps(content, indent=1, allow_nan=False, default=lambda each: each.tolist())
        temporary.write_text(text + "\n", encoding="utf-8")


def load_model(path: Path | str) -> StatesModel | TimelineModel:
    """Read a model file; an `InputError` says what is missing, cut or absurd in it.

    Parameters
    ----------
    path : Path or str
        File written by `save_model`.

    Returns
    -------
    StatesModel or TimelineModel
        The model.

    Examples
    --------
    >>> import sitetrace
    >>> model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    >>> model.configuration.name
    'testbed-8b testbed tp1'
    """
    content, mend = read_json(path), "fit the model anew or take the matching version of sitetrace"
    schema, kind = content.get("schema"), content.get("kind")
    what = f"field schema {schema!r} or field kind {kind!r} is not of this version"
    require(schema == SCHEMA and kind in [*PARTS], path, what, mend)
    try:
        model = _model(content, path)
        summary(model)  # provenance must hold what is printed of it
        return model
    except DAMAGE as error:
        lacks = f"field {error} is missing" if isinstance(error, KeyError) else f"{error}"
        reason = " ".join(lacks.split())[:200]
        raise InputError(f"{path}: no sound model file ({reason}): fit the model anew") from None


def weights_path(model: Path | str) -> Path:
    """Where the weights of a model lie: beside its file, with the ending ``.npz``."""
    path = Path(model)
    require(path.suffix != ".npz", path, "is where the weights of a net would lie", "name it .json")
    return path.with_suffix(".npz")


def described(model: StatesModel | TimelineModel) -> str:
    """Describe a model in half a line."""
    if isinstance(model, TimelineModel):
        step_ms = 1e3 * model.server.c0_s
        return f"timeline of steps from {step_ms:.1f} ms, idle {model.idle.mean_w:.1f} W"
    idle = "with idle" if model.idle is None else f"above idle {model.idle.mean_w:.1f} W"
    return f"{model.mixture.n_states} states {idle}"


def summary(model: StatesModel | TimelineModel) -> str:
    """Describe a model in a few lines."""
    provenance = model.provenance
    runs = ", ".join(f"{run['name']} ({run['sha256'][:12]})" for run in provenance["runs"])
    idle = "one of the states" if model.idle is None else f"{model.idle.mean_w:.2f} W"
    kind, *table = (_timeline_lines if isinstance(model, TimelineModel) else _states_lines)(model)
    told = {"configuration": model.configuration.name, "kind": kind}
    told |= {"data": f"{provenance['data']}: {runs}", "step": f"{float(model.dt):g} s"}
    told |= {"idle": idle, "server": model.server, "fitted up to": model.fitted}
    because = {"rule": provenance.get("rule"), "chosen": provenance.get("kind_because")}
    lines = [f"{title:15}{text}" for title, text in told.items()] + table
    lines += [f"{title:15}{text}" for title, text in because.items() if text is not None]
    lines += misfit_lines(provenance)
    for name, rows in provenance["selection"].items():
        if name != "meter":  # hundreds of rows
            lines.append(f"chosen by cross-validated free runs: {name}")
            for row in rows:
                short = (f"{k}={v:.4g}" if type(v) is float else f"{k}={v}" for k, v in row.items())
                lines.append("  " + "  ".join(short))
    return "\n".join(lines)


def _states_lines(model: StatesModel) -> list[str]:
    kind, mixture, emissions = _kind(model.transitions, TRANSITIONS), model.mixture, model.emissions
    idle = "with idle" if model.idle is None else "above idle"
    made_of = f"{kind} transitions, {emissions.kind} emissions"
    lines = [f"states: {mixture.n_states} states {idle}, {made_of}"]
    lines.append("state  mean W  sigma W  weight   phi")
    columns = (mixture.mean_w, mixture.sigma_w, mixture.weight, emissions.phi)
    for k, (mean_w, sigma_w, weight, phi) in enumerate(zip(*columns, strict=True), start=1):
        lines.append(f"{k:5d}  {mean_w:6.1f}  {sigma_w:7.2f}  {weight:6.3f}  {phi:4.2f}")
    return lines


def _timeline_lines(model: TimelineModel) -> list[str]:
    power, meter, noise = model.surface, model.meter, model.residual
    scale = "" if power.batch_scale > 1e5 else f", saturating with {power.batch_scale:g}"
    text = f"""timeline: engine's steps, watts of a step, meter
decode         {power.decode_w:.1f} W, {power.per_sequence_w:.2f} W a sequence{scale}, \
{power.warm_w:.1f} W more when warm
prefill        to {power.prefill_w:.1f} W with a scale of {power.scale_tokens:g} tokens; \
sustained at most {power.limit_w:.0f} W
after work     {model.idle.active_w:.1f} W more, gone in {model.decay_s:.2g} s; \
{power.warm_idle_w:.1f} W more idle when warm
meter          mean of {meter.window_s:g} s, {meter.lag_s:g} s old, renewed every \
{meter.update_s:g} s
noise          {noise.idle_w:.2f} W idle, {noise.decode_w:.2f} W at work, \
autocorrelation {noise.phi:.2f}"""
    return text.splitlines()


def _model(content: dict, path: Path | str) -> StatesModel | TimelineModel:
    sizes, states = {"2": 2}, content["kind"] == "states"
    if states:
        sizes["k"] = len(content["mixture"]["mean_w"])
        sizes["s"] = sizes["k"] + 1
    if states and content["transitions"]["kind"] == "bigru":
        place = weights_path(path)
        archive = place.read_bytes()
        same = hashlib.sha256(archive).hexdigest() == content["transitions"]["weights_sha256"]
        _demand(same, f"{place}: not the weights that the model file names")
        with np.load(io.BytesIO(archive), allow_pickle=False) as file:
            content["transitions"] |= {name: file[name] for name in WEIGHTS}
        hidden = content["transitions"]["hidden_weight"].shape[-1]
        sizes |= {"h": hidden, "g": 3 * hidden, "d": 2 * hidden}
    parts = PARTS[content["kind"]].items()
    made = {name: _part(types, content, name, sizes) for name, types in parts}
    for name in ("fitted", "provenance"):
        made[name] = dict(content[name])
        json.dumps(made[name], allow_nan=False)  # it must be fit to be written again
    made["power_range_w"] = tuple(map(float, content["power_range_w"]))
    made["dt"] = parse_step(content["dt_s"])
    _check_range("dt_s", float(made["dt"]))
    lowest, highest = made["power_range_w"]
    _demand(0 <= lowest <= highest <= MAX_POWER_W, "power_range_w is no range of power")
    for name, limit in made["fitted"].items():
        _demand(type(limit) in (int, float) and limit >= 0, f"fitted.{name} is no number")
    if isinstance(made["server"], LogNormalTTFT):
        with np.errstate(all="ignore"):
            sizes_of_log = np.abs(made["server"].log_ttft(np.array([1.0, MAX_TOKENS])))
        _demand((sizes_of_log < 50).all(), "server: absurd TTFT")
    if states:
        return _checked(StatesModel(**made), sizes["s"])
    made["decay_s"] = float(content["decay_s"])
    _check_range("decay_s", made["decay_s"])
    _demand(isinstance(made["server"], Server), "server: the kind timeline needs an engine")
    same = (made["surface"].idle_w, made["meter"].dt_s) == (made["idle"].mean_w, float(made["dt"]))
    _demand(same, "surface or meter: idle_w or dt_s is not the model's")
    return TimelineModel(**made)


def _checked(model: StatesModel, n_states: int) -> StatesModel:
    transitions, emissions = model.transitions, model.emissions
    _demand(emissions.kind in KINDS, f"emissions: kind is none of {', '.join(KINDS)}")
    _demand(emissions.quantile_w.shape[1] >= 2, "emissions: quantile_w has no two quantiles")
    weights = [model.mixture.weight]
    if isinstance(transitions, Coupled | Independent):
        weights.append(transitions.weight)
    else:
        _demand(model.idle is not None, "idle: is missing, and the transitions lead there")
        columns = [transitions.column] if isinstance(transitions, Markov) else transitions.columns
        _demand(columns and set(columns) <= set(COLUMNS), "columns are no activity columns")
    sound = all((each >= 0).all() and abs(each.sum() - 1) < 1e-6 for each in weights)
    _demand(sound, "weight does not sum to one over the states")
    if isinstance(transitions, Markov):
        _demand((np.diff(transitions.edges) > 0).all(), "transitions: edges do not ascend")
        sums = transitions.probability.sum(axis=2)
        sound = len(sums) == transitions.edges.size + 1 and np.allclose(sums, 1)
        _demand(sound, "transitions: probability does not sum to one in each level")
    if isinstance(transitions, Trees):
        _check_trees(transitions)
    chance = transitions.matrix({name: np.array([0.0, 1.0]) for name in COLUMNS})
    sound = chance.shape == (2, n_states, n_states) and np.allclose(chance.sum(axis=2), 1)
    _demand(sound, "transitions: they give no probabilities")
    return model


def _check_trees(trees: Trees) -> None:
    # children stand behind their parents, so that every walk ends in a leaf
    whole = (trees.roots, trees.feature, trees.left, trees.right)
    _demand(all(part.dtype.kind == "i" for part in whole), "transitions: a node is no whole number")
    inner, n_nodes = np.flatnonzero(trees.feature >= 0), trees.value.size
    below = np.array([trees.left[inner], trees.right[inner]])
    # the previous state comes after the features of the window
    one_bin = dict.fromkeys(trees.columns, [0.0])
    seen = kinds.window_features(one_bin, trees.columns, kinds.TREE_WINDOW).shape[1]
    _demand((trees.roots < n_nodes).all(), "transitions: a root is no node")
    _demand((trees.feature <= seen).all(), "transitions: a feature is not there")
    sound = (below > inner) & (below < n_nodes)
    _demand(sound.all(), "transitions: a branch does not lead on to a node")


def _part(types: type | dict[str, type], content: dict, part: str, sizes: dict[str, int]) -> Any:
    # make a part of a model, each field checked by annotation, range and shape
    values = content[part]
    if isinstance(types, dict):
        types = named(f"kind of {part}", values["kind"], types)
    elif part == "idle" and content["kind"] == "states" and values is None:
        return None
    made, hints = {}, get_type_hints(types)
    for name in (field.name for field in fields(types)):
        value, hint, what = values[name], hints[name], f"{part}: {name}"
        if hint is np.ndarray:
            shape = "sf" if types is Logit and name == "weight" else SHAPES[name]
            value = np.asarray(value)
            _demand(value.size and value.ndim == len(shape), f"{what} is no list of such values")
            for letter, size in zip(shape, value.shape, strict=True):
                _demand(sizes.setdefault(letter, size) == size, f"{what} is not of the right shape")
        elif hint is float or get_origin(hint) is tuple:
            value = (get_origin(hint) or float)(value)
        else:
            _demand(type(value) is hint, f"{what} is no whole number, or no text")
        if not isinstance(value, str | tuple):
            _check_range(what, value)
        made[name] = value
    return types(**made)


def _check_range(what: str, value: Any) -> None:
    name, numbers = what.split()[-1], np.asarray(value)
    units = (limits for unit, limits in UNITS.items() if name.endswith(unit))
    low, high = RANGES.get(name) or next(units, (-GREATEST, GREATEST))
    sound = numbers.dtype.kind in "if" and (numbers >= low).all() and (numbers <= high).all()
    _demand(sound, f"{what} is no number from {low:g} to {high:g}")


def _kind(part: object, kinds: dict[str, type]) -> str:
    return next(name for name, type_ in kinds.items() if type(part) is type_)


def _demand(sound: bool, what: str) -> None:
    if not sound:
        raise ValueError(what)
