"""Settings in YAML, checked: the first fault is one line that names line, key and mend."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from sitetrace.core.files import InputError

Keys = tuple[str | int, ...]
MAX_BYTES = 256_000
DEEPEST = 20

# Nothing is turned into a number that is not one: "0.5" and true are refused.
Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=300)]

_OUT_OF_RANGE = {
    "greater_than": "not above",
    "greater_than_equal": "below",
    "less_than": "not below",
    "less_than_equal": "above",
}
HEAD = "| key | what | value | if left out |\n| --- | --- | --- | --- |"


# Reading YAML


def read_yaml(path: Path | str) -> tuple[dict, dict[Keys, int]]:
    """Read a mapping from a YAML file, strictly: no aliases, no key twice.

    With it the line of each key, and of each item of a list.
    """
    path = Path(path)
    lines: dict[Keys, int] = {}
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES} bytes: no scenario is that long")
        text = content.decode("utf-8-sig")
        if not text.strip():
            raise InputError(f"{path}: the file is empty: write keys such as hours: 24")
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}: line 1: holds no mapping: write keys such as hours: 24")
        _note_lines(path, node, (), lines)
        return loader.construct_document(node), lines
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: no UTF-8 text: save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise InputError(_syntax(path, error)) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: no plain YAML ({reason}): write text, numbers and lists") from (
            None
        )


def place_of(path: Path | str, lines: dict[Keys, int], keys: Keys) -> str:
    """Name file, line and key of a setting; of one left out the line of what it belongs to."""
    above = [keys[:depth] for depth in range(len(keys), 0, -1)]
    line = next((lines[place] for place in above if place in lines), 1)
    return f"{path}: line {line}" + (f", key {dotted(keys)}" if keys else "")


def dotted(keys: Keys) -> str:
    """Write keys as in ``fleet[0].traffic.swing``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return " ".join(text.removeprefix(".").split())[:120]


class _Loader(yaml.SafeLoader):
    """Plain YAML: times stay text, since only their owner knows what a time must say."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    depth = 0

    def compose_node(self, parent, index):
        """Refuse what is nested too deeply, and aliases."""
        problem = ""
        if self.depth > DEEPEST:
            problem = "nested too deeply: a scenario needs few levels"
        elif self.check_event(yaml.AliasEvent):
            problem = "an alias (*): write the keys out"
        if problem:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _syntax(path: Path, error: yaml.MarkedYAMLError) -> str:
    """Say one line about a place where YAML stops."""
    mark = error.problem_mark or error.context_mark
    line = "" if mark is None else f" line {mark.line + 1}:"
    problem = error.problem or "broken off"
    if problem.startswith("but"):
        problem = f"{error.context}, {problem}"
    problem = " ".join(problem.split())
    if "'\\t'" in problem:
        problem = "a tab: indent with spaces"
    if ": " not in problem:
        problem += ": check indents, colons, quotes and brackets"
    return f"{path}:{line} {problem}"


def _note_lines(path: Path, node: yaml.Node, keys: Keys, lines: dict[Keys, int]) -> None:
    """Walk through a document; refuse keys that stand twice and numbers that mislead."""
    if isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            lines[*keys, place] = item.start_mark.line + 1
            _note_lines(path, item, (*keys, place), lines)
    elif isinstance(node, yaml.MappingNode):
        for name, item in node.value:
            line, place = name.start_mark.line + 1, (*keys, name.value)
            if not isinstance(name, yaml.ScalarNode) or not name.tag.endswith(":str"):
                raise InputError(f"{path}: line {line}: a key that is no name: write name: value")
            if place in lines:
                raise InputError(f"{path}: line {line}, key {dotted(place)}: stands there twice "
                                 f"(line {lines[place]}): remove one")  # fmt: skip
            lines[place] = line
            _note_lines(path, item, place, lines)
    elif node.tag.endswith((":int", ":float")):
        text = node.value  # 24:00 is to base 60, 010 to base 8
        if ":" in text or re.match(r"[-+]?0[0-9_]", text) or len(text) > 60:
            raise InputError(
                f"{path}: line {node.start_mark.line + 1}, key {dotted(keys)}: YAML would read "
                f"{text[:40]} to base 60 or 8, or not at all: write a plain number"
            )


# Models of settings, and their fields in words


class Fault(ValueError):
    """A fault between several settings, at one of them: `keys` below the part that found it."""

    def __init__(self, keys: Keys, text: str) -> None:
        super().__init__(text)
        self.keys = keys


class Part(BaseModel):
    """A mapping of settings: frozen, without unknown keys; its fields are its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Write the docstring's parameters from the fields, so that both say the same."""
        super().__pydantic_init_subclass__(**kwargs)
        lines = [cls.__doc__ or "", "", "Parameters", "----------"]
        for name, field in cls.model_fields.items():
            optional = "" if field.is_required() else ", optional"
            text = f"{field.description}."
            lines += [f"{name} : {kind_of(field)}{optional}", f"    {text[0].upper()}{text[1:]}"]
        cls.__doc__ = "\n".join(lines)


def parts_in(annotation: Any) -> list[type[Part]]:
    """All models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for inner in get_args(annotation) for part in parts_in(inner)]


def tag_of(part: type[Part]) -> str:
    """Name by which a union tells its models apart: the pattern, else the class."""
    pattern = part.model_fields.get("pattern")
    return part.__name__ if pattern is None else pattern.default


def kind_of(field: FieldInfo) -> str:
    """Kind of value in words, such as ``number`` or ``list of whole numbers``."""
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


def range_of(field: FieldInfo) -> str:
    """Bounds of a number, or of the items of a list, in words such as ``0 to 1``; else nothing."""

    def collect(annotation: Any) -> list:
        found = []
        for inner in get_args(annotation):
            found += inner.metadata if isinstance(inner, FieldInfo) else collect(inner)
        return found

    limits = {}
    for item in [*collect(field.annotation), *field.metadata]:
        limits |= {
            key: getattr(item, key) for key in ("gt", "ge", "lt", "le") if hasattr(item, key)
        }
    low = f"above {limits['gt']}" if "gt" in limits else str(limits.get("ge", ""))
    high = f"below {limits['lt']}" if "lt" in limits else str(limits.get("le", ""))
    if not low or not high:
        return low or high
    return f"{low}, up to {high}" if "gt" in limits else f"{low} to {high}"


# Faults in words


def nearest(name: object, known: list[str]) -> str:
    """Mend of a misspelt name: the nearest one, else all there are."""
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
        key, (keys, _, (part, *_), family) = loc[-1], _walk(root, loc[:-1])
        known = [name for name, field in part.model_fields.items() if not field.exclude]
        others = [tag_of(rival) for rival in family if key in rival.model_fields]
        if others:
            where = f"belongs to {' and '.join(others)}, not to {tag_of(part)}: leave it out"
        else:
            where = f"no such key here: {nearest(key, known)}"
        return (*keys, key), where
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
        tag, known = context["tag"], [*map(tag_of, here)]
        return (*keys, "pattern"), f"{tag[:40]!r} is no pattern: {nearest(tag, known)}"
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


# Tables of all keys, as `sitetrace site --keys` prints them


def key_tables(settings: type[Part]) -> str:
    """Describe every key of settings, in one Markdown table for each kind of mapping."""
    told: dict[type[Part], str] = {}
    _tell("", settings, told)
    return "\n\n".join(_table(title, part) for part, title in told.items())


def _tell(path: str, part: type[Part], told: dict[type[Part], str]) -> None:
    """Note under which key a model and those below it stand, each at its first place."""
    told.setdefault(part, path + (f", {tag_of(part)}" if "pattern" in part.model_fields else ""))
    for name, field in part.model_fields.items():
        if path and name == "traffic":  # told at the top
            continue
        several = "[]" if "list" in kind_of(field) else ""
        for inner in parts_in(field.annotation):
            _tell(f"{path}.{name}".strip(".") + several, inner, told)


def _table(path: str, part: type[Part]) -> str:
    """One table in Markdown: key, what, kind and bounds, default."""
    rows = []
    for name, field in part.model_fields.items():
        if field.exclude is not None:
            continue
        default = "" if field.default is None or field.default_factory else str(field.default)
        if field.is_required() or name == "pattern":
            default = "must be given"
        elif isinstance(field.default, float):
            default = f"{field.default:g}"
        value = f"{kind_of(field)} {range_of(field)}".strip()
        rows.append(f"| `{name}` | {field.description} | {value} | {default} |")
    title = f"`{path}`" if path else "the file"
    return "\n".join([f"**{title}**: {part.__doc__.splitlines()[0]}", "", HEAD, *rows])
