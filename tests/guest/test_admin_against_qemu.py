"""Admin commands of the emulated controller against QEMU's: what each says of pages, logs and features that both may have.

How the commands end is the same but for what is in the list, and so are the pages of Identify, but for what each controller
says of itself alone (pages.py). Log pages, which count what else was done, differ.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import aionvme
from aionvme.devices import kernel_version
from aionvme.emulator import Device
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import AdminOpcode
from aionvme.nvme.status import Completion
from aionvme.nvme.transfer import admin_data_len
from tests.conftest import node

from .pages import says
from .twins import spec_of

pytestmark = pytest.mark.feature("the emulated device does what QEMU's controller does")

OWN, NONE, ALL, ABSENT = -1, 0, 0xFFFF_FFFF, 0x77
"""Namespaces: OWN stands for the one, whichever number it has; there is no ABSENT one."""
CNS = (0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x09, 0x0A, 0x1C, 0x1D, 0x20, 0x7F, 0xC0, 0xFF)
LENGTHS = ((512, 0), (64, 2), (64, 4), (64, 1 << 40), (4096, 8192))
"""Length and offset of what is asked for of a log page."""
LID = (0x01, 0x02, 0x03, 0x05, 0x70, 0xC0, 0xFF)
FID = (0x00, 0x04, 0x06, 0x07, 0x7F, 0xC0, 0xFF)
NUMBER_OF_QUEUES = 0x07
KEPT_SINCE = (7, 0)
"""From this kernel on the driver keeps Set Features of the number of queues to itself, root's commands included: they end with
EACCES (drivers/nvme/host/ioctl.c, nvme_admin_cmd_allowed)."""


class Difference(NamedTuple):
    """Where the two may differ, who is right, and what tells that a difference is this one."""

    what: str
    right: str
    applies: Callable[[Command, Completion, Completion], bool]


QUEUES = Difference(
    "Set Features, Number of Queues: QEMU has Command Sequence Error, since there are queues",
    "QEMU (Base 2.0, section 5.27.1.5); the emulated device knows of no queues, they are the driver's",
    lambda command, ours, theirs: (
        command.opcode == AdminOpcode.SET_FEATURES
        and command.cdw10 & 0xFF == NUMBER_OF_QUEUES
        and (ours.status, theirs.status) in {(0, 0x400C), (0x410F, 0x400C)}
    ),
)
"""Nowhere to be seen where the driver keeps the command to itself."""

DIFFERENCES = (
    Difference(
        "Set Features: QEMU looks at SV, which asks to save, before the feature's identifier",
        "both: where a command fails for several reasons, which status is returned is the vendor's choice "
        "(Base 2.0, section 3.3.3.2.1)",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.SET_FEATURES and (ours.status, theirs.status) == (0x4002, 0x410D)
        ),
    ),
    Difference(
        "Get Log Page: QEMU has Invalid Field in Command for a log page that it does not have",
        "both: Invalid Log Page (Base 2.0, section 5.16, status values), or Invalid Field in Command (ZNS Command Set 1.1, "
        "section 4.1.4), which later revisions leave to controllers of 2.0 and earlier",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.GET_LOG_PAGE and (ours.status, theirs.status) == (0x4109, 0x4002)
        ),
    ),
    Difference(
        "Get Features, Volatile Write Cache: off by default in QEMU",
        "both: a default is the controller's to choose (Base 2.0, section 5.27.1.4)",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.GET_FEATURES
            and command.cdw10 & 0xFF == 0x06
            and (ours, theirs) == ((0, 1), (0, 0))
        ),
    ),
    QUEUES,
)


def commands() -> Iterator[tuple[Command, int]]:
    """Commands, and how much each fills."""
    for cns, csi, nsid in product(CNS, (0, 2, 3, 0xFF), (OWN, NONE, ALL, ALL - 1)):
        yield Command(AdminOpcode.IDENTIFY, nsid, cdw10=cns, cdw11=csi << 24), 4096
    for lid, (length, offset), nsid in product(LID, LENGTHS, (OWN, ALL)):
        cdw10 = lid | 1 << 15 | (length // 4 - 1) << 16
        yield Command(AdminOpcode.GET_LOG_PAGE, nsid, cdw10=cdw10, cdw12=offset & ALL, cdw13=offset >> 32), length
    yield Command(AdminOpcode.GET_LOG_PAGE, ABSENT, cdw10=0x02 | 127 << 16), 512
    for fid, save, nsid in product(FID, (0, 1 << 31), (OWN, NONE, ALL, ABSENT)):
        # A threshold that is above the temperature, and a write cache that is on.
        yield Command(AdminOpcode.SET_FEATURES, nsid, cdw10=fid | save, cdw11=0x151), 0
    for fid, sel, nsid in product(FID, range(4), (OWN, NONE, ALL)):
        yield Command(AdminOpcode.GET_FEATURES, nsid, cdw10=fid | sel << 8), 0
    for opcode in (0x0F, 0x12, 0x1F, 0x20, 0x7F, 0xC1, 0xFF):
        yield Command(opcode, NONE), 0


class Both(NamedTuple):
    """How each ended a command, and with what data."""

    ours: Completion
    theirs: Completion
    mine: NDArray[np.uint8]
    other: NDArray[np.uint8]


async def both(ns: aionvme.Namespace, device: Device, command: Command, filled: int) -> Both:
    """Carry out a command on each."""
    own = command.nsid == OWN
    length = filled or admin_data_len(command) or 0
    mine, other = np.zeros(length, np.uint8), np.zeros(length, np.uint8)
    sends = command.opcode == AdminOpcode.SET_FEATURES
    memory = {"data" if sends else "into": other} if length else {}
    ours = device.execute(command._replace(nsid=1) if own else command, mine.data, admin=True)
    theirs = await ns.submit_admin(command._replace(nsid=ns.nsid) if own else command, **memory)
    return Both(ours, theirs, mine, other)


def unlike_pages(ns: aionvme.Namespace, command: Command, done: Both) -> list[str]:
    """What two pages of Identify do not say alike."""
    if command.opcode != AdminOpcode.IDENTIFY or done.ours.status or done.theirs.status:
        return []
    cns, csi = command.cdw10 & 0xFF, command.cdw11 >> 24
    mine = says(cns, csi, done.mine, 1, 0)
    other = says(cns, csi, done.other, ns.nsid, int(ns.identify.raw["flbas"]) & 0xF)
    return [f"{name}: {value!r}, QEMU {other[name]!r}" for name, value in mine.items() if value != other[name]]


@pytest.mark.parametrize("nsid", [1, 2, 8])
def test_admin_commands(nsid: int) -> None:
    """Half a thousand commands, for namespaces that are there and others: the same statuses, results and pages."""
    found: list[str] = []
    met: set[str] = set()
    pages = 0

    def judge(ns: aionvme.Namespace, command: Command, done: Both) -> None:
        nonlocal pages
        ours, theirs = done.ours, done.theirs
        if ours.status != theirs.status or (not ours.status and ours.result != theirs.result):
            known = [each.what for each in DIFFERENCES if each.applies(command, ours, theirs)]
            met.update(known)
            if not known:
                found.append(f"{command}: {ours}, QEMU {theirs}")
        unlike = unlike_pages(ns, command, done)
        pages += command.opcode == AdminOpcode.IDENTIFY and not ours.status
        if unlike:
            found.append(f"{command}: {unlike}")

    async def compare() -> None:
        async with aionvme.open(node(nsid), queue="interrupt") as ns:
            device = Device(spec_of(ns, await ns.report_zones() if ns.zoned else None))
            for command, filled in commands():
                kept = command.opcode == AdminOpcode.SET_FEATURES and command.cdw10 & 0xFF == NUMBER_OF_QUEUES
                if kept and kernel_version() >= KEPT_SINCE:
                    with pytest.raises(PermissionError):
                        await both(ns, device, command, filled)
                else:
                    judge(ns, command, await both(ns, device, command, filled))
            device.close()

    asyncio.run(compare())
    assert not found, "\n".join(found)
    assert pages > 50
    stale = {each.what for each in DIFFERENCES} - met
    assert stale == ({QUEUES.what} if kernel_version() >= KEPT_SINCE else set())
