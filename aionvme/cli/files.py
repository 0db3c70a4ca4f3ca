"""Files that commands write: refused, before anything else is done, where that could only go wrong later."""

import os
from pathlib import Path

from aionvme.cli import CommandLineError


def check_writable(option: str, file: Path) -> None:
    """Raise CommandLineError where no file can be written."""
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise CommandLineError(f"{option} {file}: no file can be written there")


def check_figure(file: Path) -> None:
    """Raise CommandLineError where a figure cannot be drawn, or not into such a file."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError:
        raise CommandLineError(
            "--figure needs matplotlib: pip install 'aionvme[plots]', or '.[plots]' in a clone"
        ) from None
    kinds = FigureCanvasBase.get_supported_filetypes()
    if file.suffix.lstrip(".").lower() not in kinds:
        raise CommandLineError(
            f"--figure {file}: name a file that ends in .png, or another of {', '.join(sorted(kinds))}"
        )
    check_writable("--figure", file)
