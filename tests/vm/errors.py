"""What goes wrong outside the guest's command."""

from __future__ import annotations

from pathlib import Path


class VmError(Exception):
    """The virtual machine failed; nothing is known about the command.

    ``console`` is the log of the guest's console, if it came to that.
    """

    def __init__(self, message: str, console: Path | None = None) -> None:
        super().__init__(message)
        self.console = console


class BootOopsError(VmError):
    """The guest's kernel oopsed before the command started."""
