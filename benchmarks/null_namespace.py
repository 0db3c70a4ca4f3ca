"""A namespace whose commands go to /dev/null."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aionvme
from aionvme.buffers import BufferPool
from aionvme.driver.driver import Driver
from aionvme.queues.ring import RingQueue


@asynccontextmanager
async def null_namespace(depth: int, sqpoll: bool = False) -> AsyncIterator[aionvme.Namespace]:
    """A namespace like an emulated one of 64 MiB, whose I/O commands go to /dev/null through a ring (Linux 6.1).

    A uring_cmd there makes the whole way into the kernel and back, and nothing is done. This is the one place where a benchmark
    takes the library apart: what is measured on the namespace is the API as everybody has it.
    """
    fd = os.open("/dev/null", os.O_RDWR)
    queue = RingQueue(fd, 0, kind="interrupt", depth=depth, sqpoll=sqpoll)
    pool = BufferPool(queue.register, queue.unregister, 1 << 20)
    driver = Driver(queue, "/dev/null")
    async with aionvme.open("emu:nvm?size=64MiB") as emulated:
        yield aionvme.Namespace("/dev/null", emulated._geometry, emulated.queue, pool, driver, driver)
    await driver.aclose()
    os.close(fd)
