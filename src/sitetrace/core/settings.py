"""Settings in YAML, checked: the first fault is one line that names line, key and mend."""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sitetrace.core.files import InputError, require

Keys = tuple[str | int, ...]
MAX_BYTES = 256_000
# Nothing is turned into a number that is not one: "0.5" and true are refused.
Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=300)]
# words of JSON's schema, and pydantic's of Python's types, as a reader of YAML knows them
KINDS = {"mapping": "mapping", "number": "number", "integer": "whole number", "string": "text"}
KINDS |= {"time": "time", "name": "name"}
WORDS = {"$ref": "mapping", "enum": "name", "const": "name", "format": "time"}
TYPES = {"model_type": "a mapping", "model_attributes_type": "a mapping", "tuple_type": "a list"}
HEAD = "| key | what | value | if left out |\n| --- | --- | --- | --- |"


class Fault(InputError):
    """A fault between several settings, at one of them: `keys` below the part that found it."""

    def __init__(self, keys: Keys, text: str) -> None:
        super().__init__(text)
        self.keys = keys


def demand(ok: object, keys: Keys, text: str) -> None:
    """Raise a fault unless it is so."""
    if not ok:
        raise Fault(keys, text)


class Part(BaseModel):
    """A mapping of settings: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_its_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = cls.model_fields
        for key in given:  # before one is missing for it
            demand(key in known, (key,), f"no such key here: {nearest(key, known)}")
        for name, field in known.items():
            there = name in given or not field.is_required()
            demand(there, (name,), f"is missing: give {field.description}")
        return given


def read_yaml(path: Path | str) -> tuple[dict, dict[Keys, int]]:
    """Read a mapping from a YAML file; with it the line of each key, and of each item of a list."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
        node, content = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" line {mark.line + 1}:"
        reason = " ".join(str(error if mark is None else error.problem).split())[:120]
        mend = "check that it is UTF-8, its indents (spaces, no tabs), colons, quotes and brackets"
        raise InputError(f"{path}:{line} no plain YAML ({reason}): {mend}") from None
    require(len(text) <= MAX_BYTES, path, f"more than {MAX_BYTES} bytes", "write a shorter one")
    mapping, lines = isinstance(content, dict), {}
    require(mapping, f"{path}: line 1", "holds no mapping", "write keys such as hours: 24")
    _note_lines(path, node, (), lines, set())
    return content, lines


def _note_lines(path: Path | str, node: yaml.Node, keys: Keys, lines: dict, seen: set) -> None:
    here = place_of(path, lines, keys)
    require(node not in seen, here, "an alias (*)", "write it out")
    seen.add(node)
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
        # 24:00 is to base 60, 010 to base 8
        odd = re.search(r":|^[-+]?0[0-9_]|^.{61}", node.value)
        what = f"{node.value[:40]} is to base 60 or 8, or too long"
        require(not odd, here, what, "write a plain number")
    inner = list(enumerate(node.value)) if isinstance(node, yaml.SequenceNode) else []
    for name, item in node.value if isinstance(node, yaml.MappingNode) else ():
        line, place = name.start_mark.line + 1, (*keys, name.value)
        twice = f"stands there twice (line {lines.get(place)})"
        require(place not in lines, place_of(path, {place: line}, place), twice, "remove one")
        lines[place] = line
        inner.append((name.value, item))
    for key, item in inner:
        if item not in seen:
            lines.setdefault((*keys, key), item.start_mark.line + 1)
        _note_lines(path, item, (*keys, key), lines, seen)


def place_of(path: Path | str, lines: dict[Keys, int], keys: Keys) -> str:
    """Name file, line and key of a setting; of one left out the line of what it belongs to."""
    line = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), 1)
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    dotted = " ".join(text.removeprefix(".").split())[:120]
    return f"{path}: line {line}" + (f", key {dotted}" if keys else "")


def nearest(name: object, known: Iterable[str]) -> str:
    """Mend of a misspelt name: the nearest one, else all there are."""
    close = difflib.get_close_matches(str(name), known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known):.200}"


def first_fault(error: ValidationError, content: dict) -> tuple[Keys, str]:
    """Keys and words of the first fault of settings."""
    fault = error.errors(include_url=False)[0]
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    keys, here = [], content
    for step in fault["loc"]:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):  # which form of several it is, no key
            continue
        keys.append(step)
    if isinstance(context.get("error"), Fault):
        return (*keys, *context["error"].keys), str(context["error"])
    if kind == "union_tag_not_found":
        close = difflib.get_close_matches("pattern", map(str, value), 1)
        text = "no such key here: did you mean pattern?" if close else "is missing: name one"
        return (*keys, *(close or ["pattern"])), text
    shown = json.dumps(context.get("tag", value), default=str, ensure_ascii=False)[:40]
    keys += ["pattern"] if kind == "union_tag_invalid" else []
    if kind in ("union_tag_invalid", "literal_error"):
        known = re.findall(r"'([^']+)'", context.get("expected_tags") or context["expected"])
        return (*keys,), f"{shown} is not known: {nearest(shown, known)}"
    text = f"should be {TYPES[kind]}" if kind in TYPES else fault["msg"]
    return (*keys,), f"{shown}: {text.removeprefix('Input ').removeprefix('Value error, ')}"


def _parts_in(annotation: Any) -> list[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts_in(inner)]


def key_tables(settings: type[Part]) -> str:
    """Describe every key of settings, in one Markdown table for each kind of mapping."""
    tables, waiting = {}, [("", settings)]
    while waiting:
        path, part = waiting.pop(0)
        if part in tables:
            continue
        rows, inner = [], []
        for name, form in part.model_json_schema()["properties"].items():
            field = part.model_fields[name]
            default = "" if field.default is None or field.default_factory else field.default
            default = f"{default:g}" if isinstance(default, float) else default
            default = "must be given" if field.is_required() or name == "pattern" else default
            rows.append(f"| `{name}` | {field.description} | {_in_words(form)} | {default} |")
            below = f"{path}.{name}".strip(".") + ("[]" if "tuple" in str(field.annotation) else "")
            if not path or name != "traffic":  # told at the top
                inner += [(below, each) for each in _parts_in(field.annotation)]
        waiting = inner + waiting
        if "pattern" in part.model_fields:
            path += f", {part.model_fields['pattern'].default}"
        title = f"`{path}`" if path else "the file"
        tables[part] = "\n".join([f"**{title}**: {part.__doc__.splitlines()[0]}", "", HEAD, *rows])
    return "\n\n".join(tables.values())


def _in_words(schema: dict) -> str:
    """Kind of a value and its bounds, of its JSON schema: ``list of whole numbers 0 to 9``."""
    forms, told, words = [schema], {}, set()
    for form in forms:  # which grows: alternatives and items of a list are laid flat
        forms += [*form.get("anyOf", ()), *form.get("oneOf", ())]
        forms += [form["items"]] if "items" in form else []
        told |= form
        words.add(next((word for key, word in WORDS.items() if key in form), form.get("type")))
    listed = " or ".join(KINDS[word] for word in KINDS if word in words)
    listed = f"list of {listed}s" if "items" in told else listed
    low, high = (str(told.get(name, "")) for name in ("minimum", "maximum"))
    if "exclusiveMinimum" in told:
        low = f"above {told['exclusiveMinimum']}" + (", up" if high else "")
    return " ".join(filter(None, (listed, low, "to" if low and high else "", high)))
