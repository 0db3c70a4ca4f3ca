"""What a check says, and what many of them say."""

import errno
from dataclasses import dataclass
from typing import Literal

from aionvme.queues.attach import PathReport

Verdict = Literal["ok", "warn", "fail", "absent"]
"""warn: it works, and could work better. absent: it is not there or was not to be tried, and that is no fault of its own."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: the verdict, what was found and, where that is not ok, what to do about it."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class TargetDiagnosis:
    """What was found out about one target; ``queue`` is the path that commands take, None where it does not open."""

    target: str
    checks: tuple[Check, ...]
    queue: PathReport | None


@dataclass(frozen=True)
class Diagnosis:
    """The checks of the machine, and those of each target."""

    machine: tuple[Check, ...]
    targets: tuple[TargetDiagnosis, ...]

    @property
    def failed(self) -> int:
        """How many checks failed."""
        checks = [*self.machine, *(check for target in self.targets for check in target.checks)]
        return sum(check.verdict == "fail" for check in checks)


NO_RAW_REMEDY = "none: polling is the best there is elsewhere; Linux 6.1 can be patched with aionvme's _native/kernel"
RAW_REMEDY = (
    "put 'options nvme raw_queues=1' into /etc/modprobe.d/nvme.conf and load the driver again, or boot with "
    "nvme.raw_queues=1"
)
POLL_REMEDY = (
    "put 'options nvme poll_queues=2' into /etc/modprobe.d/nvme.conf and load the driver again, or boot with "
    "nvme.poll_queues=2; or at once, where nothing uses the controller: write 2 to /sys/module/nvme/parameters/poll_queues, then "
    "the controller's PCI address to /sys/bus/pci/drivers/nvme/unbind and to bind; over fabrics: nvme connect --nr-poll-queues=2"
)


def one_line(error: Exception) -> str:
    """An exception as one line for people: what an OSError is about comes first, its errno by name last."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    subject = f"{error.filename}: " if error.filename is not None else ""
    return f"{subject}{error.strerror} [{errno.errorcode.get(error.errno, error.errno)}]"
