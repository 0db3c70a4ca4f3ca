"""A folder of things that are slow to make, each of them there completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).resolve().parents[2]


def cache_root() -> Path:
    """Return the cache folder, created if need be."""
    root = Path(os.environ.get("AIONVME_VM_CACHE") or PROJECT / ".cache" / "vm").absolute()
    root.mkdir(parents=True, exist_ok=True)
    return root


def publish(root: Path, build: Callable[[Path], Path]) -> Path:
    """Let ``build`` fill a fresh folder, then move that to the place it returns (below ``root``).

    Whoever loses a race to the same place uses the winner's folder.
    """
    with TemporaryDirectory(dir=root, prefix="unfinished-") as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        target = build(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target
