"""Checked settings: pydantic models whose first fault is one line that names key and mend."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

# Nothing is turned into a number that is not one: "0.5" and true are refused.
Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=300)]
Keys = tuple[str | int, ...]
_OUT_OF_RANGE = {
    "greater_than": "not above",
    "greater_than_equal": "below",
    "less_than": "not below",
    "less_than_equal": "above",
}


class Fault(ValueError):
    """A fault between several settings, at one of them."""

    def __init__(self, keys: Keys, text: str) -> None:
        super().__init__(text)
        self.keys = keys


class Part(BaseModel):
    """A mapping of settings: frozen, without unknown keys; its fields are its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        """Write the docstring's parameters from the fields, so that both say the same."""
        super().__pydantic_init_subclass__(**kwargs)
        lines = [cls.__doc__ or "", "", "Parameters", "----------"]
        for name, field in cls.model_fields.items():
            optional = "" if field.is_required() else ", optional"
            text = f"{field.description}."
            lines += [f"{name} : {kind_of(field)}{optional}", f"    {text[0].upper()}{text[1:]}"]
        cls.__doc__ = "\n".join(lines)


def parts_in(annotation: Any) -> list[type[Part]]:  # noqa: ANN401
    """All models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_in(inner)]


def tag_of(part: type[Part]) -> str:
    """Name by which a union tells its models apart: the pattern, else the class."""
    pattern = part.model_fields.get("pattern")
    return part.__name__ if pattern is None else pattern.default


def _limits(field: FieldInfo) -> dict[str, float]:
    """Find the bounds of a field, or of the items of a list."""

    def collect(annotation: Any) -> list:  # noqa: ANN401
        found = []
        for inner in get_args(annotation):
            found += inner.metadata if isinstance(inner, FieldInfo) else collect(inner)
        return found

    given = {}
    for item in [*collect(field.annotation), *field.metadata]:
        given |= {key: getattr(item, key) for key in ("gt", "ge", "lt", "le") if hasattr(item, key)}
    return given


def range_of(field: FieldInfo) -> str:
    """Bounds of a number in words."""
    limits = _limits(field)
    low = f"above {limits['gt']}" if "gt" in limits else str(limits.get("ge", ""))
    high = f"below {limits['lt']}" if "lt" in limits else str(limits.get("le", ""))
    if not low or not high:
        return low or high
    return f"{low}, up to {high}" if "gt" in limits else f"{low} to {high}"


def kind_of(field: FieldInfo) -> str:
    """Kind of value in words."""
    text = str(field.annotation)
    several = text.startswith("tuple") or "[tuple[" in text
    words = [("mapping", "mappings")] if parts_in(field.annotation) else []
    for name, one in (("float", "number"), ("int", "whole number"), ("str", "text")):
        if f"[{name}," in text or text == f"<class '{name}'>":
            words.append((one, f"{one}s"))
    if "datetime" in text.lower():
        words.append(("time", "times"))
    if "Literal" in text:
        words.append(("name", "names"))
    listed = " or ".join(dict.fromkeys(word[several] for word in words))
    return f"list of {listed}" if several else listed


def nearest(name: object, known: list[str]) -> str:
    """Mend of a misspelt name."""
    close = difflib.get_close_matches(str(name), known, 1, 0.6)
    listed = ", ".join(known)
    cut = listed if len(listed) <= 200 else listed[: listed.rindex(",", 0, 200)] + ", ..."
    return f"did you mean {close[0]}?" if close else f"there are {cut}"


def shown(value: object) -> str:
    """Print a value as a reader of the file knows it, cut to what fits on a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:40] + "..."


def first_fault(error: ValidationError, root: type[Part]) -> tuple[Keys, str]:
    """Put the fault that explains most into words: a misspelt key before one that is missing."""
    faults = error.errors(include_url=False)
    fault = min(faults, key=lambda each: each["type"] != "extra_forbidden")
    if faults[0]["type"] == "json_invalid":
        return (), f"{faults[0]['msg']}: write it anew"
    loc, kind, value, context = fault["loc"], fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        keys, _, here, family = _walk(root, loc[:-1])
        return (*keys, loc[-1]), _unknown_key(loc[-1], here[0], family)
    keys, field, here, _ = _walk(root, loc)
    if kind == "value_error" and isinstance(context["error"], Fault):
        return (*keys, *context["error"].keys), str(context["error"])
    if kind == "union_tag_not_found":
        known = {name: part for part in here for name in part.model_fields}
        odd = [name for name in value if name not in known]
        if odd:
            return (*keys, odd[0]), f"no such key here: {nearest(odd[0], list(known))}"
        return (*keys, "pattern"), f"is missing: give one of {', '.join(map(tag_of, here))}"
    if kind == "union_tag_invalid":
        tag = context["tag"]
        return (
            *keys,
            "pattern",
        ), f"{tag[:40]!r} is no pattern: {nearest(tag, [*map(tag_of, here)])}"
    if kind == "missing":
        return keys, f"is missing: give {field.description}"
    return keys, _value_fault(kind, value, context, field, here)


def _walk(root: type[Part], loc: tuple) -> tuple[Keys, FieldInfo | None, list, list]:
    """Follow a place to its keys, its field, the models that may stand there, and all rivals."""
    keys, field, here, family = [], None, [root], [root]
    for step in loc:
        named = [part.model_fields[step] for part in here if step in part.model_fields]
        told = [part for part in here if tag_of(part) == step]
        if isinstance(step, int):
            keys.append(step)
        elif told and len(here) > 1:  # a union says which of its models it took
            here = told
        elif named:
            keys.append(step)
            field = named[0]
            here = family = parts_in(field.annotation)
    return tuple(keys), field, here, family


def _unknown_key(key: object, part: type[Part], family: list[type[Part]]) -> str:
    """Say where a key belongs, or how it is spelt."""
    others = [tag_of(rival) for rival in family if key in rival.model_fields]
    if others:
        return f"belongs to {' and '.join(others)}, not to {tag_of(part)}: leave it out"
    known = [name for name, field in part.model_fields.items() if not field.exclude]
    return f"no such key here: {nearest(key, known)}"


def _value_fault(kind: str, value: object, context: dict, field: FieldInfo, here: list) -> str:
    """Say what is wrong with a value."""
    allowed = f"give {range_of(field) or field.description}"
    if kind in _OUT_OF_RANGE:
        limit = next(iter(context.values()))
        return f"{shown(value)} is {_OUT_OF_RANGE[kind]} {limit:.17g}: {allowed}"
    if kind == "literal_error":
        known = [name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")]
        return f"{shown(value)} is not known: {nearest(value, known)}"
    if kind in ("float_type", "int_type", "int_from_float", "finite_number"):
        wanted = "whole number" if kind.startswith("int") else "number"
        wanted = f"finite {wanted}" if kind == "finite_number" else wanted
        quotes = " as a plain number, without quotes" if isinstance(value, str) else ""
        return f"{shown(value)} is no {wanted}: {allowed}{quotes}"
    if kind == "string_type":
        return f"{shown(value)} is no text: give {field.description}, in quotes"
    if kind in ("model_type", "model_attributes_type"):
        known = ", ".join(dict.fromkeys(name for part in here for name in part.model_fields))
        return f"{shown(value)} is no mapping: give keys of {known}"
    if kind == "tuple_type":
        return f"{shown(value)} is no list: give {field.description}"
    if kind in ("too_short", "string_too_short"):
        return f"is empty: give {field.description}"
    return f"{shown(value)}: too long: give {field.description}"
