"""Header buttons open the notebook of the repository that a page is made from.

The theme links to what the page is built from: an executed copy, which is not in the repository. A
notebook makes two pages and more, so that their copies cannot all lie where it lies.
"""

from typing import Any


def name_install_line(app: Any, config: Any) -> None:
    """Let pages say {{ install }}: the line that installs the package on Colab."""
    url = config.html_theme_options["repository_url"]
    config.myst_substitutions = {"install": f"`%pip install -q 'sitetrace[book] @ git+{url}'`"}


def open_notebook(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    """Put the notebook that a copy names in place of the copy."""
    notebook = app.env.metadata.get(pagename, {}).get("launches")
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if notebook and group.get("label") == "launch-buttons":
                button["url"] = button["url"].replace(f"{pagename}.ipynb", notebook)


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", name_install_line)
    # The theme makes its buttons at 501.
    app.connect("html-page-context", open_notebook, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
