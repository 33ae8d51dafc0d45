"""What the README tells a reader to paste works when pasted, in its order, in one empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = dict(re.findall(r"<!-- tested -->\n```(\w+)\n(.*?)```", README, re.DOTALL))


def paste(program: list[str], block: str, folder: Path) -> subprocess.CompletedProcess:
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("SITETRACE_DATA", None)
    return subprocess.run(
        [*program, block], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    return folder, paste(["bash", "-euo", "pipefail", "-c"], BLOCKS["shell"], folder)


def test_the_shell_lines_end_in_a_judged_trace(shell):
    folder, done = shell
    assert done.returncode == 0, done.stderr
    assert {"testbed", "model.json", "requests.csv", "trace.csv"} <= set(os.listdir(folder))
    assert "energy_error_pct" in done.stdout


def test_the_python_lines_print_energy_and_peak(shell):
    folder, _ = shell
    done = paste([sys.executable, "-W", "error", "-c"], BLOCKS["python"], folder)
    assert done.returncode == 0, done.stderr
    energy_kwh, peak_w = map(float, re.findall(r"[\d.]+", done.stdout))
    assert 0 < energy_kwh < 1
    assert 10 < peak_w < 10_000


def test_there_are_five_lines_of_each():
    assert [len(block.splitlines()) for block in BLOCKS.values()] == [5, 5]


def test_every_file_that_the_readme_points_to_is_there():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert [target for target in targets if not (ROOT / target).exists()] == []
