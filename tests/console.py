"""The command line as a process of its own, in a folder of the test's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of sparqless, written as in a shell."""
    return start([sys.executable, "-m", "cli", *shlex.split(arguments)], folder)


def start(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Any command, with the project's modules at hand."""
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
