"""What this process may do, as the kernel tells it."""

import os
import re
from pathlib import Path

from aionvme.devices import attribute_text

PROC = Path("/proc")

CAP_IPC_LOCK = 14
CAP_SYS_ADMIN = 21


def sysctl(name: str) -> str | None:
    """A sysctl of kernel.*, None where this kernel has none of that name."""
    return attribute_text(PROC / "sys/kernel" / name)


def capable(capability: int) -> bool:
    """Whether a capability is in effect."""
    return bool(int(_status("CapEff") or "0", 16) >> capability & 1)


def filtered() -> bool:
    """Whether a seccomp filter is at work."""
    return _status("Seccomp") == "2"


def in_group(group: str | None) -> bool:
    """Whether this process is in a group, by its number as text."""
    return group is not None and group.isdigit() and int(group) in (os.getegid(), *os.getgroups())


def mapped_library(name: str) -> str | None:
    """The path of a shared library that is mapped, None where there is none."""
    found = re.findall(rf"\S*/{name}[^/\s]*$", attribute_text(PROC / "self/maps") or "", re.MULTILINE)
    return found[0] if found else None


def _status(key: str) -> str | None:
    match = re.search(rf"^{key}:\s*(\S+)", attribute_text(PROC / "self/status") or "", re.MULTILINE)
    return match and match[1]
