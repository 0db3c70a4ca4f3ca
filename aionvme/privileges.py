"""What the kernel says this process may do."""

import re
from pathlib import Path

from aionvme.devices import attribute_text

PROC = Path("/proc")

CAP_IPC_LOCK = 14
CAP_SYS_ADMIN = 21


def capable(capability: int) -> bool:
    """Whether a capability is in effect."""
    return bool(int(process_status("CapEff") or "0", 16) >> capability & 1)


def process_status(key: str) -> str | None:
    """A line of /proc/self/status, None where this kernel has none of that name."""
    match = re.search(rf"^{key}:\s*(\S+)", attribute_text(PROC / "self/status") or "", re.MULTILINE)
    return match and match[1]
