"""All keys of settings in tables, written from the models that check them."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from sitetrace.checked import Part, kind_of, parts_in, range_of, tag_of

HEAD = "| key | what | value | if left out |\n| --- | --- | --- | --- |"


def key_tables(settings: type[Part]) -> str:
    """Describe every key of settings."""
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
    title = f"`{path}`" if path else "the file"
    told = {name: field for name, field in part.model_fields.items() if field.exclude is None}
    rows = [f"| `{name}` | {field.description} | {_value(field)} | {_default(name, field)} |"
            for name, field in told.items()]  # fmt: skip
    return "\n".join([f"**{title}**: {part.__doc__.splitlines()[0]}", "", HEAD, *rows])


def _value(field: FieldInfo) -> str:
    return f"{kind_of(field)} {range_of(field)}".strip()


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required() or name == "pattern":
        return "must be given"
    if field.default is None or field.default_factory is not None:
        return ""
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
