"""Pages made from a notebook open the notebook of the repository on Binder and Colab."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("launch", ROOT / "book" / "_ext" / "launch.py")
launch = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(launch)
RUNS = yaml.safe_load((ROOT / "book" / "runs.yml").read_text())
CONFIG = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())
REPOSITORY = CONFIG["repository"]
PAGES = launch.notebooks_by_page(ROOT / "book" / "runs.yml")


def header(page):
    options = {"repository_url": REPOSITORY["url"], "repository_branch": REPOSITORY["branch"]}
    app = SimpleNamespace(
        srcdir=str(ROOT / "book"), config=SimpleNamespace(html_theme_options=options)
    )
    context = {"header_buttons": [{"label": "search-button"}]}
    launch.add_button(app, page, "page.html", context, None)
    return context["header_buttons"]


def services(page):
    return {entry["text"]: entry["url"] for entry in header(page)[0]["buttons"]}


@pytest.mark.parametrize("run", RUNS, ids=[run["page"] for run in RUNS])
def test_a_page_opens_a_notebook_that_is_in_the_repository(run):
    found = services(f"_generated/{run['page']}")
    in_binder = parse_qs(urlsplit(found["Binder"]).query)["urlpath"][0].removeprefix("lab/tree/")
    in_colab = found["Colab"].partition(f"/blob/{REPOSITORY['branch']}/")[2]
    assert in_binder == in_colab == f"notebooks/{run['notebook']}.ipynb"
    assert (ROOT / in_colab).is_file()


def test_both_services_are_given_the_one_address_of_the_repository():
    found = launch.links("https://github.com/one/two", "trunk", "acf.ipynb")
    assert found == {
        "Binder": "https://mybinder.org/v2/gh/one/two/trunk?urlpath=lab/tree/notebooks/acf.ipynb",
        "Colab": "https://colab.research.google.com/github/one/two/blob/trunk/notebooks/acf.ipynb",
    }
    assert launch.links("https://github.com/one/two/", "trunk", "acf.ipynb") == found


def test_the_address_stands_in_one_place():
    address = urlsplit(REPOSITORY["url"]).netloc + urlsplit(REPOSITORY["url"]).path
    book = ROOT / "book"
    texts = [
        *book.glob("*.*"),
        *(book / "_ext").glob("*.py"),
        *(ROOT / "notebooks").rglob("*.ipynb"),
    ]
    named = [path.name for path in texts if address in path.read_text("utf-8")]
    assert named == ["_config.yml"]


@pytest.mark.parametrize("url", ["https://gitlab.com/one/two", "https://github.com/one", ""])
def test_an_address_that_binder_cannot_open_is_refused(url):
    with pytest.raises(ValueError, match="repository.url"):
        launch.links(url, "main", "acf.ipynb")


def test_a_page_without_a_notebook_has_no_button():
    assert header("glossary") == [{"label": "search-button"}]


def test_the_colab_line_installs_from_the_address():
    config = SimpleNamespace(html_theme_options={"repository_url": "https://github.com/one/two"})
    launch.name_install_line(None, config)
    line = config.myst_substitutions["install"]
    assert line == "`%pip install -q 'sitetrace[book] @ git+https://github.com/one/two'`"
    assert "{{ install }}" in (ROOT / "book" / "how.md").read_text()


def test_a_script_that_two_tools_add_stands_on_the_page_once():
    spec = importlib.util.spec_from_file_location("s", ROOT / "book" / "_ext" / "script_files.py")
    scripts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scripts)
    given = [(None, "const a"), ("x.js", ""), ("", "const a"), (None, "const b"), ("x.js", "")]
    files = [SimpleNamespace(filename=name, attributes={"body": body}) for name, body in given]
    assert scripts.once(files) == [files[0], files[1], files[3]]
