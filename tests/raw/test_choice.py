"""Getting a raw queue: auto takes one, one too many is an error with a reason, and what was closed is free at once."""

import subprocess
import sys
from contextlib import AsyncExitStack

import numpy as np
import pytest

import aionvme
from aionvme.queues import raw
from aionvme.queues.raw import ProposedRawQueue
from tests.raw.conftest import numbers

pytestmark = pytest.mark.anyio

PAGE = 4096


async def test_auto_takes_a_raw_queue(nvm: str) -> None:
    """Where there is a free raw queue it is the best path, with nothing to explain."""
    async with aionvme.open(nvm) as ns:
        assert (ns.queue.kind, ns.queue.why_not, ns.queue.depth) == ("raw", {}, 64)
        assert ns.queue.detour == "commands with data in several pieces are interrupt driven"


async def test_depth_ends_at_the_hardware_queues(nvm: str) -> None:
    """The queue has 1024 entries, one of which is always empty."""
    async with aionvme.open(nvm, queue="raw", depth=16384) as ns:
        assert ns.queue.depth == 1023


async def test_one_ring_too_many(nvm: str, total: int) -> None:
    """With every raw queue taken the name raises and auto takes the next path, both saying why; a freed one is free at once."""
    async with AsyncExitStack() as stack:
        for taken in range(total):
            assert numbers(nvm) == (total, total - taken)
            await stack.enter_async_context(aionvme.open(nvm, queue="raw"))
        with pytest.raises(aionvme.UsageError, match="every raw queue of the controller is taken"):
            async with aionvme.open(nvm, queue="raw"):
                pass
        async with aionvme.open(nvm) as ns:
            assert ns.queue.kind == "interrupt"
            assert "every raw queue of the controller is taken" in ns.queue.why_not["raw"]
            assert ((await ns.read(0, 1)).size) == 512
    for _ in range(20):
        async with AsyncExitStack() as stack:
            for _ in range(total):
                ns = await stack.enter_async_context(aionvme.open(nvm, queue="raw"))
            await ns.read(0, 1)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from aionvme import devices
from aionvme.queues.raw import open_raw_queue
device = devices.find(Path(sys.argv[1]))
try:
    open_raw_queue(device, os.open(device.path, os.O_RDWR), depth=4)
except PermissionError as error:
    print(error.strerror)
"""


def test_without_the_capability(nvm: str) -> None:
    """Without CAP_SYS_ADMIN registering is refused with PermissionError, which names it."""
    command = ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", UNPRIVILEGED, nvm]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "CAP_SYS_ADMIN" in done.stdout, done.stderr


async def test_as_on_the_first_proposals_kernel(nvm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not say how many raw queues there are, only whole pages of registered buffers take one.

    The data is right on both ways, whatever the buffer, and ns.queue tells of the detour.
    """
    monkeypatch.setattr(raw, "raw_queues", lambda device: None)
    monkeypatch.setattr(raw, "driver_parameter", lambda name: 1)
    async with aionvme.open(nvm, queue="raw") as ns:
        queue = ns._io.queue
        assert isinstance(queue, ProposedRawQueue)
        assert (ns.queue.kind, ns.queue.detour) == ("raw", ProposedRawQueue.detour)
        assert ns.max_transfer_bytes <= 126 * PAGE
        taken: list[bool] = []
        takes = queue.takes

        def noted(entry: bytes, buf_index: int) -> bool:
            taken.append(takes(entry, buf_index))
            return taken[-1]

        monkeypatch.setattr(queue, "takes", noted)
        dice = np.random.default_rng(1)
        buffer = ns.alloc(4 * PAGE)
        for offset, length, direct in [
            (0, PAGE, True),
            (PAGE, 512, True),
            (3 * PAGE, PAGE, True),
            (512, 512, False),
            (0, 2 * PAGE, False),
        ]:
            part = buffer[offset : offset + length]
            data = part[:] = dice.integers(0, 256, length, np.uint8)
            taken.clear()
            await ns.write(64, part)
            await ns.flush()
            assert taken == [direct, False]
            ordinary = np.zeros(length, np.uint8)
            await ns.read(64, length // 512, into=ordinary)
            assert (ordinary == data).all()
            part[:] = 0
            await ns.read(64, length // 512, into=part)
            assert (part == data).all()


async def test_too_many_for_the_first_proposal(nvm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel loses every queue but the first: with more than one none is taken."""
    monkeypatch.setattr(raw, "raw_queues", lambda device: None)
    monkeypatch.setattr(raw, "driver_parameter", lambda name: 2)
    with pytest.raises(aionvme.UsageError, match="lose all but one"):
        async with aionvme.open(nvm, queue="raw"):
            pass
