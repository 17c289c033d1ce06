"""Trees of other commits, each with the packages that its own requirements.txt names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = "packages"  # the directory in such a tree


def install_packages(tree: Path) -> None:
    """Install the requirements of the tree's service into it; downloads those that are not cached."""
    command = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*command, "--target", tree / PACKAGES, "--requirement", tree / "requirements.txt"], check=True)


def import_path(tree: Path) -> dict[str, str]:
    """Return the environment variable by which Python imports the tree's own packages."""
    return {"PYTHONPATH": str(tree / PACKAGES)}
