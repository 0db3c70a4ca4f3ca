"""Admin commands of the emulated controller against QEMU's: what each says of pages, logs and features that both may have.

What they tell of themselves differs; how the commands end does not, but for what is in the list.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest

import aionvme
from aionvme.emulator import Device, parse_spec
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import AdminOpcode
from aionvme.nvme.status import Completion
from aionvme.nvme.transfer import admin_data_len
from tests.conftest import node

pytestmark = pytest.mark.feature("the emulated device does what QEMU's controller does")

OWN, NONE, ALL, ABSENT = -1, 0, 0xFFFF_FFFF, 0x77
"""Namespaces: OWN stands for the one, whichever number it has; there is no ABSENT one."""
CNS = (0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x09, 0x0A, 0x1C, 0x1D, 0x20, 0x7F, 0xC0, 0xFF)
LENGTHS = ((512, 0), (64, 2), (64, 4), (64, 1 << 40), (4096, 8192))
"""Length and offset of what is asked for of a log page."""
LID = (0x01, 0x02, 0x03, 0x05, 0x70, 0xC0, 0xFF)
FID = (0x00, 0x04, 0x06, 0x07, 0x7F, 0xC0, 0xFF)
RESERVED = {0x07}
"""Features among them that the kernel's driver keeps to itself, root's commands included, in 7.x: Set Features ends with EACCES
there (drivers/nvme/host/ioctl.c, nvme_admin_cmd_allowed)."""
TARGETS = {1: "emu:nvm?size=64MiB", 2: "emu:zns?zones=32&zone_size=4MiB&zone_capacity=3MiB&mor=6&mar=8"}


class Difference(NamedTuple):
    """Where the two may differ, who is right, and what tells that a difference is this one."""

    what: str
    right: str
    applies: Callable[[Command, Completion, Completion], bool]


DIFFERENCES = (
    Difference(
        "Set Features: QEMU looks at SV, which asks to save, before the feature's identifier",
        "both: the command has two errors",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.SET_FEATURES and (ours.status, theirs.status) == (0x4002, 0x410D)
        ),
    ),
    Difference(
        "Get Log Page: QEMU has Invalid Field in Command for a log page that it does not have",
        "the emulated device: Invalid Log Page (Base 2.0, status values of Get Log Page)",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.GET_LOG_PAGE and (ours.status, theirs.status) == (0x4109, 0x4002)
        ),
    ),
    Difference(
        "Set Features, Number of Queues: QEMU has Command Sequence Error, since there are queues",
        "QEMU (Base 2.0, section 5.27.1.5); the emulated device knows of no queues, they are the driver's",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.SET_FEATURES and command.cdw10 & 0xFF == 0x07 and theirs.status == 0x400C
        ),
    ),
    Difference(
        "Get Features, Volatile Write Cache: off by default in QEMU",
        "both (Base 2.0, section 5.27.1.4)",
        lambda command, ours, theirs: (
            command.opcode == AdminOpcode.GET_FEATURES
            and command.cdw10 & 0xFF == 0x06
            and (ours, theirs) == ((0, 1), (0, 0))
        ),
    ),
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


async def both(ns: aionvme.Namespace, device: Device, command: Command, filled: int) -> tuple[Completion, Completion]:
    """How each ends a command."""
    own = command.nsid == OWN
    buffer = np.zeros(filled or admin_data_len(command) or 0, np.uint8)
    sends = command.opcode == AdminOpcode.SET_FEATURES
    memory = {"data" if sends else "into": buffer} if buffer.size else {}
    ours = device.execute(command._replace(nsid=1) if own else command, buffer.data, admin=True)
    theirs = await ns.submit_admin(command._replace(nsid=ns.nsid) if own else command, **memory)
    return ours, theirs


@pytest.mark.parametrize("nsid", TARGETS)
def test_admin_commands(nsid: int) -> None:
    """Half a thousand commands, for namespaces that are there and others: the same statuses, the same results."""

    async def compare() -> list[str]:
        found = []
        device = Device(parse_spec(TARGETS[nsid]))
        async with aionvme.open(node(nsid), queue="interrupt") as ns:
            for command, filled in commands():
                try:
                    ours, theirs = await both(ns, device, command, filled)
                except PermissionError:
                    if command.opcode == AdminOpcode.SET_FEATURES and command.cdw10 & 0xFF in RESERVED:
                        continue
                    raise
                same = ours.status == theirs.status and (ours.status or ours.result == theirs.result)
                if not same and not any(each.applies(command, ours, theirs) for each in DIFFERENCES):
                    found.append(f"{command}: {ours}, QEMU {theirs}")
        device.close()
        return found

    found = asyncio.run(compare())
    assert not found, "\n".join(found)
