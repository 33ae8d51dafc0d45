"""Each script of a page once: the book's tools add some twice, with and without an empty address.

A second `const` of one name is an error in the reader's browser.
"""

from __future__ import annotations

from typing import Any


def once(scripts: list[Any]) -> list[Any]:
    """Leave out scripts that stand there already, by address and text."""
    found: dict[tuple[str, str], Any] = {}
    for one in scripts:
        found.setdefault((one.filename or "", str(one.attributes)), one)
    return list(found.values())


def keep_one_of_each(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    context["script_files"] = once(context["script_files"])


def setup(app: Any) -> dict[str, bool]:
    # after all that add scripts to a page
    app.connect("html-page-context", keep_one_of_each, priority=990)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
