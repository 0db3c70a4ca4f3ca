"""Raw queues under load, with every byte verified: alone, beside the block layer, and with processes fighting for a queue."""

import mmap
import os
import random
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import numpy as np
import pytest

import aionvme
from aionvme import devices

pytestmark = pytest.mark.anyio

BLOCK = 512


class Ledger:
    """What is in each block of a range that one task alone writes, and the next thing to do with it."""

    def __init__(self, ns: aionvme.Namespace, first: int, blocks: int, seed: int) -> None:
        self._ns = ns
        self._first = first
        self._blocks = blocks
        self._dice = random.Random(seed)
        self._data = np.random.default_rng(seed)
        self._stored = np.zeros(blocks * BLOCK, np.uint8)
        self._registered = ns.alloc(64 * BLOCK)

    async def begin(self) -> None:
        """Make the blocks what the ledger says."""
        await self._ns.write(self._first, self._stored)

    async def step(self) -> None:
        """Write or read some blocks, through a registered buffer or another, at any place in it that is a multiple of 4."""
        nlb = self._dice.choice((1, 1, 1, 2, 8, 9, 33))
        at = self._dice.randrange(self._blocks - nlb + 1)
        stored = self._stored[at * BLOCK : (at + nlb) * BLOCK]
        shift = self._dice.randrange(0, 31 * BLOCK, 4)
        memory = self._registered if self._dice.random() < 0.7 else np.empty(64 * BLOCK, np.uint8)
        buffer = memory[shift : shift + nlb * BLOCK]
        if self._dice.random() < 0.5:
            buffer[:] = self._data.integers(0, 256, buffer.size, np.uint8)
            stored[:] = buffer
            await self._ns.write(self._first + at, buffer)
        else:
            await self._ns.read(self._first + at, nlb, into=buffer)
            assert np.array_equal(buffer, stored), f"{nlb} blocks at {self._first + at}"


async def test_random_reads_and_writes_on_two_queues(nvm: str) -> None:
    """Twenty thousand of them, by 64 tasks over two raw queues of one process: each read gives what was written last."""
    async with aionvme.open(nvm, queue="raw") as one, aionvme.open(nvm, queue="raw") as other:

        async def work(i: int) -> None:
            ledger = Ledger((one, other)[i % 2], i * 256, 256, i)
            await ledger.begin()
            for _ in range(300):
                await ledger.step()

        async with anyio.create_task_group() as tasks:
            for i in range(64):
                tasks.start_soon(work, i)


class BlockLayer(threading.Thread):
    """Writes and reads the namespace's last blocks through its block device, past the page cache, until it is stopped."""

    def __init__(self, device: Path, first: int, blocks: int) -> None:
        super().__init__()
        self._stopped = threading.Event()
        self._device = device
        self._first = first
        self._blocks = blocks
        self.rounds = 0
        self.wrong: list[int] = []

    def run(self) -> None:
        """Block I/O of 4 KiB with O_DIRECT, which wants aligned memory."""
        fd = os.open(self._device, os.O_RDWR | os.O_DIRECT)
        dice = random.Random(9)
        page = mmap.mmap(-1, 4096)
        stored: dict[int, bytes] = {}
        try:
            while not self._stopped.is_set():
                block = self._first + dice.randrange(self._blocks // 8) * 8
                page[:] = stored[block] = dice.randbytes(4096)
                os.pwrite(fd, page, block * BLOCK)
                block = dice.choice(list(stored))
                os.preadv(fd, [page], block * BLOCK)
                if page[:] != stored[block]:
                    self.wrong.append(block)
                self.rounds += 1
        finally:
            os.close(fd)

    def stop(self) -> None:
        """End after the current round."""
        self._stopped.set()
        self.join()


async def test_the_block_layer_goes_on_beside_it(nvm: str) -> None:
    """The same namespace is used through its block device meanwhile: both get back what they wrote."""
    block_device = Path("/dev", devices.find(Path(nvm)).block_name)
    async with aionvme.open(nvm, queue="raw") as ns:
        beside = BlockLayer(block_device, 65536, 32768)
        beside.start()

        async def work(i: int) -> None:
            ledger = Ledger(ns, i * 256, 256, i)
            await ledger.begin()
            for _ in range(100):
                await ledger.step()

        try:
            async with anyio.create_task_group() as tasks:
                for i in range(32):
                    tasks.start_soon(work, i)
        finally:
            beside.stop()
        assert beside.rounds > 20
        assert beside.wrong == []


FIGHTER = """
import asyncio, os, sys, aionvme
target, first, lock = sys.argv[1], int(sys.argv[2]), sys.argv[3]
async def fight():
    try:
        async with aionvme.open(target, queue="raw") as ns:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            for i in range(20):
                data = bytes([i + first & 255]) * 4096
                await ns.write(first, data)
                assert bytes(await ns.read(first, 8)) == data
            os.unlink(lock)
            return True
    except aionvme.UsageError as error:
        assert "taken" in str(error)
        return False
fights = won = 0
while won < 5:
    fights += 1
    won += asyncio.run(fight())
print(fights)
"""


async def test_processes_fight_for_one_queue(nvm: str, total: int, tmp_path: Path) -> None:
    """With one queue left, three processes get it one at a time or are told that it is taken, and each gets it in the end."""
    async with AsyncExitStack() as stack:
        for _ in range(total - 1):
            await stack.enter_async_context(aionvme.open(nvm, queue="raw"))
        fights: list[int] = []

        async def fighter(first: int) -> None:
            command = [sys.executable, "-c", FIGHTER, nvm, str(first), str(tmp_path / "lock")]
            fights.append(int((await anyio.run_process(command, stderr=None)).stdout))

        async with anyio.create_task_group() as tasks:
            for i in range(3):
                tasks.start_soon(fighter, i * 64)
        assert min(fights) >= 5
