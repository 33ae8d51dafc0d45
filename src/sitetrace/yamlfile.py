"""YAML files of settings: what they hold, and on which line each key stands."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sitetrace.checked import Keys
from sitetrace.files import InputError

MAX_BYTES = 256_000
DEEPEST = 20


class _Loader(yaml.SafeLoader):
    """Plain YAML: times stay text, since only their owner knows what a time must say."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    depth = 0

    def compose_node(self, parent, index):  # noqa: ANN001, ANN202
        mark = self.peek_event().start_mark
        if self.depth > DEEPEST:
            problem = "nested too deeply: a scenario needs few levels"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias (*): write the keys out", problem_mark=mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(path: Path | str) -> tuple[dict, dict[Keys, int]]:
    """Read a mapping from a YAML file, strictly: no aliases, no key twice."""
    path = Path(path)
    text = _text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}: line 1: holds no mapping: write keys such as hours: 24")
        lines: dict[Keys, int] = {}
        _note_lines(path, node, (), lines)
        return loader.construct_document(node), lines
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        raise InputError(_syntax(path, error)) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(f"{path}: no plain YAML ({reason}): write text, numbers and lists") from (
            None
        )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: more than {MAX_BYTES} bytes: no scenario is that long")
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: no UTF-8 text: save it as UTF-8") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty: write keys such as hours: 24")
    return text


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
    elif node.tag.endswith((":int", ":float")) and _misleads(node.value):
        line = node.start_mark.line + 1
        raise InputError(
            f"{path}: line {line}, key {dotted(keys)}: YAML would read {node.value[:40]} to base "
            "60 or 8, or not at all: write a plain number"
        )


def _misleads(text: str) -> bool:
    """Whether a number is to base 60 (24:00), to base 8 (010) or endless."""
    return ":" in text or bool(re.match(r"[-+]?0[0-9_]", text)) or len(text) > 60


def dotted(keys: Keys) -> str:
    """Write keys as in ``fleet[0].traffic.swing``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return " ".join(text.removeprefix(".").split())[:120]


def place_of(path: Path | str, lines: dict[Keys, int], keys: Keys) -> str:
    """Name file, line and key of a setting."""
    above = [keys[:depth] for depth in range(len(keys), 0, -1)]
    line = next((lines[place] for place in above if place in lines), 1)
    return f"{path}: line {line}" + (f", key {dotted(keys)}" if keys else "")
