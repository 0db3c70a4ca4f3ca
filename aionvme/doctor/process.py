"""This process, as the kernel shows it."""

import os
import re
from pathlib import Path

from aionvme.devices import attribute_text
from aionvme.privileges import process_status

PROC = Path("/proc")


def sysctl(name: str) -> str | None:
    """A sysctl of kernel.*, None where this kernel has none of that name."""
    return attribute_text(PROC / "sys/kernel" / name)


def filtered() -> bool:
    """Whether a seccomp filter is at work."""
    return process_status("Seccomp") == "2"


def in_group(group: str | None) -> bool:
    """Whether this process is in a group, by its number as text."""
    return group is not None and group.isdigit() and int(group) in (os.getegid(), *os.getgroups())


def mapped_library(name: str) -> str | None:
    """The path of a shared library that is mapped, None where there is none."""
    found = re.findall(rf"\S*/{name}[^/\s]*$", attribute_text(PROC / "self/maps") or "", re.MULTILINE)
    return found[0] if found else None
