"""Model files: one self-contained JSON, the same bytes for the same fit; and models in words.

Only the weights of a neural net lie beside it, in an ``.npz`` of the same name, whose digest the
JSON holds. Fields are those of the dataclasses; `model_checks` says what they must hold.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from sitetrace.core.files import InputError, read_json, replacing
from sitetrace.core.types import Configuration, parse_step
from sitetrace.meter import Meter, PowerNoise
from sitetrace.power.idle import Idle
from sitetrace.power.model_checks import check_model
from sitetrace.power.states.bigru import WEIGHTS, BiGRU
from sitetrace.power.states.mixture import Emissions, Mixture
from sitetrace.power.states.model import StatesModel
from sitetrace.power.states.transitions import Coupled, Independent, Logit, Markov
from sitetrace.power.states.trees import Trees
from sitetrace.power.timeline.model import TimelineModel
from sitetrace.power.timeline.surface import Surface
from sitetrace.serving.calibration import misfit_lines
from sitetrace.serving.engine import Server
from sitetrace.serving.surrogates import ConstantRate, LogNormalTTFT

SCHEMA = 1
# of the weights of a net
MOST_BYTES = 50_000_000
SERVERS = {"engine": Server, "constant_rate": ConstantRate, "log_normal_ttft": LogNormalTTFT}
TIMELINE_PARTS = {"idle": Idle, "surface": Surface, "meter": Meter, "residual": PowerNoise}
TRANSITIONS = {
    "markov": Markov,
    "logit": Logit,
    "trees": Trees,
    "bigru": BiGRU,
    "coupled": Coupled,
    "independent": Independent,
}


def save_model(model: StatesModel | TimelineModel, path: Path | str) -> None:
    """Write a model file (and the weights of a net beside it), whole or not at all.

    Parameters
    ----------
    model : StatesModel or TimelineModel
        The model.
    path : Path or str
        File to be written; conventionally ``.json``.

    Raises
    ------
    InputError
        If the place cannot be written.
    """
    content = {
        "schema": SCHEMA,
        "kind": "timeline" if isinstance(model, TimelineModel) else "states",
        "configuration": asdict(model.configuration),
        "dt_s": f"{model.dt.numerator}/{model.dt.denominator}",
        "server": _tagged(model.server, SERVERS),
    }
    shared = {name: getattr(model, name) for name in ("power_range_w", "fitted", "provenance")}
    if isinstance(model, TimelineModel):
        parts = {name: asdict(getattr(model, name)) for name in TIMELINE_PARTS}
        _write(content | parts | {"decay_s": model.decay_s} | shared, path)
        return
    content |= {
        "idle": None if model.idle is None else asdict(model.idle),
        "mixture": asdict(model.mixture),
        "transitions": _tagged(model.transitions, TRANSITIONS),
        "emissions": asdict(model.emissions),
        **shared,
    }
    if not isinstance(model.transitions, BiGRU):
        _write(content, path)
        return
    arrays = {name: content["transitions"].pop(name) for name in WEIGHTS}
    with replacing(weights_path(path)) as beside:
        # numpy gives every entry the same time, so that bytes follow from content
        np.savez(beside, **{name: np.ascontiguousarray(value) for name, value in arrays.items()})
        content["transitions"]["weights_sha256"] = hashlib.sha256(beside.read_bytes()).hexdigest()
        _write(content, path)


def load_model(path: Path | str) -> StatesModel | TimelineModel:
    """Read a model file.

    Parameters
    ----------
    path : Path or str
        File written by `save_model`.

    Returns
    -------
    StatesModel or TimelineModel
        The model.

    Raises
    ------
    InputError
        If the file is cut, of another schema, or lacks a field.

    Examples
    --------
    >>> import sitetrace
    >>> model = sitetrace.load_model(sitetrace.shipped_model("testbed_timeline"))
    >>> model.configuration.name
    'testbed-8b testbed tp1'
    """
    content = read_json(path)
    if content.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: field schema is {content.get('schema')!r}, this version reads {SCHEMA}: fit "
            "the model anew or take the matching version of sitetrace"
        )
    if content.get("kind") not in ("states", "timeline"):
        raise InputError(
            f"{path}: field kind is {content.get('kind')!r}: 'states' and 'timeline' are known"
        )
    beside = _weights(content.get("transitions"), path)
    try:
        # what is read as it stands must be fit to be written again
        for name in ("fitted", "provenance"):
            json.dumps(content[name], allow_nan=False)
        shared = {
            "configuration": _build(Configuration, content["configuration"]),
            "dt": parse_step(content["dt_s"]),
            "server": _build_tagged(SERVERS, content["server"]),
            "power_range_w": tuple(map(float, content["power_range_w"])),
            "fitted": dict(content["fitted"]),
            "provenance": dict(content["provenance"]),
        }
        if content["kind"] == "timeline":
            parts = {name: _build(type_, content[name]) for name, type_ in TIMELINE_PARTS.items()}
            model = TimelineModel(**shared, **parts, decay_s=float(content["decay_s"]))
        else:
            model = StatesModel(
                **shared,
                idle=None if content["idle"] is None else _build(Idle, content["idle"]),
                mixture=_build(Mixture, content["mixture"]),
                transitions=_build_tagged(TRANSITIONS, content["transitions"] | beside),
                emissions=_build(Emissions, content["emissions"]),
            )
        check_model(model)
    except KeyError as error:
        raise InputError(f"{path}: field {error} is missing: fit the model anew") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        reason = _reason(error, 120)
        raise InputError(f"{path}: no sound model file ({reason}): fit the model anew") from None
    return model


def summary(model: StatesModel | TimelineModel) -> str:
    """Describe a model in a few lines."""
    provenance = model.provenance
    runs = ", ".join(f"{run['name']} ({run['sha256'][:12]})" for run in provenance["runs"])
    idle = "one of the states" if model.idle is None else f"{model.idle.mean_w:.2f} W"
    lines_of = _timeline_lines if isinstance(model, TimelineModel) else _states_lines
    kind, table = lines_of(model)
    lines = [
        f"configuration  {model.configuration.name}",
        f"kind           {kind}",
        f"data           {provenance['data']}: {runs}",
        f"step           {float(model.dt):g} s",
        f"idle           {idle}",
        f"server         {model.server}",
        f"fitted up to   {model.fitted}",
        *table,
    ]
    for name, title in (("rule", "rule"), ("kind_because", "chosen")):
        if name in provenance:
            lines.append(f"{title:15}{provenance[name]}")
    lines += misfit_lines(provenance)
    for name, rows in provenance["selection"].items():
        if name == "meter":  # hundreds of rows
            continue
        lines.append(f"chosen by cross-validated free runs: {name}")
        for row in rows:
            short = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            lines.append("  " + "  ".join(f"{k}={v}" for k, v in short.items()))
    return "\n".join(lines)


def described(model: StatesModel | TimelineModel) -> str:
    """Describe a model in half a line."""
    if isinstance(model, TimelineModel):
        step_ms = 1e3 * model.server.c0_s
        return f"timeline of steps from {step_ms:.1f} ms, idle {model.idle.mean_w:.1f} W"
    idle = "with idle" if model.idle is None else f"above idle {model.idle.mean_w:.1f} W"
    return f"{model.mixture.n_states} states {idle}"


def weights_path(model: Path | str) -> Path:
    """Where the weights of a model lie: beside its file, with the ending ``.npz``."""
    path = Path(model)
    if path.suffix == ".npz":
        raise InputError(f"{path}: is where the weights of a net would lie: name it .json")
    return path.with_suffix(".npz")


def _states_lines(model: StatesModel) -> tuple[str, list[str]]:
    """Give the kind in words, and the table of states."""
    kind = next(name for name, type_ in TRANSITIONS.items() if isinstance(model.transitions, type_))
    above = "with" if model.idle is None else "above"
    words = (
        f"states: {model.mixture.n_states} states {above} idle, {kind} transitions, "
        f"{model.emissions.kind} emissions"
    )
    mixture = model.mixture
    columns = (mixture.mean_w, mixture.sigma_w, mixture.weight, model.emissions.phi)
    table = ["state  mean W  sigma W  weight   phi"]
    for k, row in enumerate(zip(*columns, strict=True), start=1):
        table.append(f"{k:5d}  {row[0]:6.1f}  {row[1]:7.2f}  {row[2]:6.3f}  {row[3]:4.2f}")
    return words, table


def _timeline_lines(model: TimelineModel) -> tuple[str, list[str]]:
    """Give the kind in words, and the surface, the meter and the noise."""
    surface, meter, noise = model.surface, model.meter, model.residual
    scale = "" if surface.batch_scale > 1e5 else f", saturating with {surface.batch_scale:g}"
    return "timeline: engine's steps, watts of a step, meter", [
        f"decode         {surface.decode_w:.1f} W, {surface.per_sequence_w:.2f} W a sequence{scale}"
        f", {surface.warm_w:.1f} W more when warm",
        f"prefill        to {surface.prefill_w:.1f} W with a scale of {surface.scale_tokens:g} "
        f"tokens; sustained at most {surface.limit_w:.0f} W",
        f"after work     {model.idle.active_w:.1f} W more, gone in {model.decay_s:.2g} s; "
        f"{surface.warm_idle_w:.1f} W more idle when warm",
        f"meter          mean of {meter.window_s:g} s, {meter.lag_s:g} s old, renewed every "
        f"{meter.update_s:g} s",
        f"noise          {noise.idle_w:.2f} W idle, {noise.decode_w:.2f} W at work, "
        f"autocorrelation {noise.phi:.2f}",
    ]


def _write(content: dict, path: Path | str) -> None:
    # numbers and arrays of numpy become plain
    text = json.dumps(content, indent=1, allow_nan=False, default=lambda value: value.tolist())
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _tagged(part: object, kinds: dict[str, type]) -> dict:
    kind = next(name for name, type_ in kinds.items() if type(part) is type_)
    return {"kind": kind, **asdict(part)}


def _build(type_: type, values: dict) -> Any:  # noqa: ANN401
    """Make a dataclass, each field by its annotation: lists become arrays or tuples."""
    made = {}
    for field in fields(type_):
        value = values[field.name]
        if field.type == "np.ndarray":
            value = np.asarray(value)
            if value.dtype.kind not in "if" or not np.isfinite(value).all():
                raise ValueError(f"{field.name} holds something else than numbers")
        elif field.type.startswith("tuple"):
            value = tuple(value)
        elif field.type == "float":
            value = float(value)
            if not np.isfinite(value):
                raise ValueError(f"{field.name} is not finite")
        elif field.type == "int" and type(value) is not int:
            raise ValueError(f"{field.name} is no whole number")
        elif field.type == "str" and not isinstance(value, str):
            raise ValueError(f"{field.name} is no text")
        made[field.name] = value
    return type_(**made)


def _build_tagged(kinds: dict[str, type], values: dict) -> Any:  # noqa: ANN401
    if values["kind"] not in kinds:
        raise ValueError(f"kind {values['kind']!r} is none of {', '.join(kinds)}")
    return _build(kinds[values["kind"]], values)


def _weights(transitions: Any, model: Path | str) -> dict[str, np.ndarray]:  # noqa: ANN401
    """Read the arrays of the file beside a model, if its transitions are a net."""
    if not isinstance(transitions, dict) or transitions.get("kind") != "bigru":
        return {}
    sha256 = transitions.get("weights_sha256")
    if not isinstance(sha256, str):
        raise InputError(f"{model}: field 'weights_sha256' is missing: fit the model anew")
    path, mend = weights_path(model), "copy it anew beside the model file, or fit the model anew"
    too_large = InputError(f"{path}: too large for the weights of a net: {mend}")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise too_large
        if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise InputError(f"{path}: not the weights that the model file names: {mend}")
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > MOST_BYTES:
                raise too_large
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in WEIGHTS}
    except InputError:  # a ValueError too
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: the weights of the net are missing: {mend}") from None
    except KeyError as error:
        raise InputError(f"{path}: an array is missing ({_reason(error)}): {mend}") from None
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)}): {mend}") from None


def _reason(error: Exception, length: int = 80) -> str:
    """Put the words of an error on one line."""
    return " ".join(str(error).split())[:length]
