"""The places that name our dependencies agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(lines):
    """Specifiers of requirements by name."""
    pairs = [re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line).groups() for line in lines]
    return {re.sub(r"[-_.]+", "-", name).lower(): specifier for name, specifier in pairs}


EXTRAS = PROJECT["optional-dependencies"]
REQUIRED = bounds([*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]])


def test_conda_users_get_the_same_packages_at_the_same_bounds():
    *listed, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert "-e ." in by_pip["pip"]
    found = bounds([each for each in listed + by_pip["pip"] if each not in ("pip", "-e .")])
    minor = int(re.fullmatch(r"=3\.(\d+)", found.pop("python"))[1])
    assert minor >= int(PROJECT["requires-python"].removeprefix(">=3."))
    assert found == REQUIRED


def test_every_direct_dependency_is_pinned_to_an_exact_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = bounds([line for line in lines if line and not line.startswith("#")])
    assert set(REQUIRED) <= set(pinned)
    assert all(re.fullmatch(r"==[0-9][0-9A-Za-z.+!]*", version) for version in pinned.values())
