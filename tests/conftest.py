"""Fixtures shared by all tests."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no fault
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def measured() -> Path:
    mirror = os.environ.get("SITETRACE_DATA")
    if not mirror:
        pytest.skip("SITETRACE_DATA names no mirror of the measured runs")
    folder = Path(mirror) / "measured"
    assert folder.is_dir(), f"SITETRACE_DATA={mirror} holds no folder measured"
    return folder


@pytest.fixture(scope="session")
def torch():
    if os.environ.get("SITETRACE_NEEDS_TORCH"):
        import torch

        return torch
    return pytest.importorskip("torch")


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process: exit code, stdout, stderr."""

    from sitetrace.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sitetrace", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
