"""The places that name our dependencies agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement: str) -> tuple[str, str]:
    name, specifier = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), specifier


def required(*extras: str) -> dict[str, str]:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in extras)]
    return dict(split(requirement) for group in lists for requirement in group)


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(split(line) for line in lines if line and not line.startswith("#"))


def test_conda_users_get_the_same_packages_at_the_same_bounds():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(entry["pip"] for entry in listed if isinstance(entry, dict))
    assert "-e ." in by_pip
    names = [entry for entry in listed if isinstance(entry, str) and entry != "pip"]
    found = dict(split(entry) for entry in names + [e for e in by_pip if e != "-e ."])
    pinned_minor = int(re.fullmatch(r"=3\.(\d+)", found.pop("python"))[1])
    assert pinned_minor >= int(PROJECT["requires-python"].removeprefix(">=3."))
    assert found == required("book", "test")


def test_every_direct_dependency_is_pinned_to_an_exact_version():
    assert set(required("book", "test")) <= set(pinned())
    assert all(re.fullmatch(r"==[0-9][0-9A-Za-z.+!]*", version) for version in pinned().values())
