"""The log of the guest's console: what the kernel says there about itself."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from tempfile import mkstemp

# The kernel numbers its oopses.
_OOPS = re.compile(r"\[#\d+\]|Kernel panic")
# A warning, failed assertion, or finding of lockdep or KASAN, which all begin with one of these.
_COMPLAINT = re.compile(r"^.*\b(?:BUG|KASAN|Oops|WARNING):.*$", re.MULTILINE)


def new_log(root: Path) -> Path:
    """Return a new, empty file for a console's log, below ``root``."""
    logs = root / "logs"
    logs.mkdir(exist_ok=True)
    descriptor, name = mkstemp(dir=logs, prefix=time.strftime("%Y%m%d-%H%M%S-"), suffix=".log")
    os.close(descriptor)
    return Path(name)


def oopsed(log: Path) -> bool:
    """Tell whether the kernel gave up."""
    return _OOPS.search(_text(log)) is not None


def complaint(log: Path) -> str | None:
    """Return the first line in which the kernel says that something in it is wrong, if there is one."""
    found = _COMPLAINT.search(_text(log))
    return found[0].strip() if found is not None else None


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
