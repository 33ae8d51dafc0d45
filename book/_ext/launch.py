"""Header buttons that open the notebook behind a page on Binder or Colab.

The notebooks in the repository are launched, not the executed copies that pages are made from:
those are not in it. `repository` in _config.yml is the one place that names the address.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BINDER = "https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree/notebooks/{notebook}"
COLAB = "https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks/{notebook}"
GITHUB = "https://github.com/"


def notebooks_by_page(listing: Path) -> dict[str, str]:
    """Which notebook each page of runs.yml is made from, measured or recorded pages alike."""
    entries = yaml.safe_load(listing.read_text("utf-8"))
    return {f"_generated/{entry['page']}": f"{entry['notebook']}.ipynb" for entry in entries}


def links(url: str, branch: str, notebook: str) -> dict[str, str]:
    """Address of a notebook by service; the repository must be on GitHub."""
    repository = url.removeprefix(GITHUB).strip("/")
    if not url.startswith(GITHUB) or repository.count("/") != 1:
        raise ValueError(f"repository.url {url!r} in _config.yml is no https://github.com/<a>/<b>")
    given = {"repository": repository, "branch": branch, "notebook": notebook}
    return {"Binder": BINDER.format(**given), "Colab": COLAB.format(**given)}


def button(found: dict[str, str]) -> dict[str, Any]:
    """One button of the theme's header that unfolds to the services."""
    icons = {"Binder": "logo_binder.svg", "Colab": "logo_colab.png"}
    return {
        "type": "group",
        "tooltip": "Run this notebook yourself",
        "icon": "fas fa-rocket",
        "label": "launch-buttons",
        "buttons": [
            {
                "type": "link",
                "text": service,
                "tooltip": f"Open the notebook on {service}",
                "icon": f"_static/images/{icons[service]}",
                "url": url,
            }
            for service, url in found.items()
        ],
    }


def name_install_line(app: Any, config: Any) -> None:
    """Let pages say {{ install }}: the line that installs the package on Colab."""
    url = config.html_theme_options["repository_url"]
    config.myst_substitutions = {"install": f"`%pip install -q 'sitetrace[book] @ git+{url}'`"}


def add_button(app: Any, pagename: str, templatename: str, context: dict, doctree: Any) -> None:
    """Add the button to pages that are made from a notebook."""
    notebook = notebooks_by_page(Path(app.srcdir) / "runs.yml").get(pagename)
    if notebook is None:
        return
    options = app.config.html_theme_options
    found = links(options["repository_url"], options["repository_branch"], notebook)
    context["header_buttons"].insert(0, button(found))


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", name_install_line)
    # The theme makes the list at 500 and fills it at 501.
    app.connect("html-page-context", add_button, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
