"""What the tests of faults share: a controller that is reset, cut off, removed and brought back, and how commands end."""

import errno
import gc
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray

import aionvme
from aionvme.devices import attribute_text, find, kernel_version
from tests.conftest import node

FaultQueue = Literal["interrupt", "polled"]

FAULT_QUEUES: tuple[FaultQueue, ...] = ("interrupt",) if kernel_version() < (6, 5) else ("interrupt", "polled")
"""Where commands may fail, be given up by the kernel, or be left behind by a process that is killed.

Linux before 6.5 can crash over any of these on a polled queue (``aionvme/queues/polled.py``), so that there they are seen on the
interrupt driven one alone. This is the one place that says so.
"""

on_each_path = pytest.mark.parametrize(
    ("anyio_backend", "queue"), [("asyncio", "interrupt"), ("trio", FAULT_QUEUES[-1])]
)
"""What is tested is the kernel's and the driver's: each kind of loop once, and each kind of queue, is enough."""

CONTROLLER = "nvme3"
"""The test bed's, for what is done to controllers."""

DRIVE = f"{CONTROLLER}n2"
"""Its namespace that can be slowed down, as the monitor calls it."""


def target() -> str:
    """The namespace whose backend can be slowed down. Its name changes when the controller comes back."""
    return node(2, CONTROLLER)


def controller(target: str) -> Path:
    """The sysfs folder of a target's controller."""
    return Path("/sys/class/nvme", find(Path(target)).controller.name).resolve()


def being_reset(controller: Path) -> bool:
    """Whether a controller is not, or no longer, what it is all the time but during a reset."""
    return attribute_text(controller / "state") != "live"


async def write_sysfs(path: Path, value: str) -> None:
    """Write to a file of sysfs that may answer late, beside the event loop."""
    await anyio.to_thread.run_sync(path.write_text, value)


async def reset(target: str) -> None:
    """Reset the controller."""
    await write_sysfs(controller(target) / "reset_controller", "1")


def cut_off(target: str) -> None:
    """Switch a target's controller off the bus."""
    switch_off(controller(target))


def switch_off(controller: Path) -> None:
    """Switch a controller off the bus, as when its link is lost: it answers nothing, interrupts nobody and moves no data.

    The driver switches it on again when it resets it. It has given up the commands by then, but QEMU carries them out
    all the same: so those that are in flight here must write, which asks memory for nothing but its old contents. Reads would
    end up in memory that has long been somebody else's.
    """
    with (controller / "device" / "config").open("r+b", buffering=0) as config:
        config.seek(4)  # the command register: no memory space, no bus master
        config.write(bytes(2))


@asynccontextmanager
async def lost(target: str) -> AsyncIterator[None]:
    """Cut the controller off for a while, and reset it at the end: before that no command in flight ends."""
    cut_off(target)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await reset(target)


def queue_attribute(target: str, name: str) -> Path:
    """An attribute of a target's request queue in sysfs, with multipath that of its only path."""
    device = find(Path(target))
    (block,) = device._path_block_names() or [device.block_name]
    return Path("/sys/class/block", block, "queue", name)


def limit_ms(target: str) -> int:
    """How long commands without a time limit of their own may take."""
    return int(queue_attribute(target, "io_timeout").read_text())


@contextmanager
def io_timeout(target: str, timeout_ms: int) -> Iterator[None]:
    """Have commands without a time limit of their own time out after this long, as long as the device is there."""
    limit = queue_attribute(target, "io_timeout")
    before = limit.read_text()
    limit.write_text(str(timeout_ms))
    try:
        yield
    finally:
        if limit.exists():
            limit.write_text(before)


class Ends:
    """How commands ended: None for each that succeeded, else the exception."""

    def __init__(self) -> None:
        self.all: list[Exception | None] = []

    async def note(self, command: Callable[[], Awaitable[object]]) -> None:
        """Carry one out."""
        try:
            await command()
        except Exception as error:
            self.all.append(error.with_traceback(None))  # whose frames hold buffers
        else:
            self.all.append(None)

    def failed(self) -> list[Exception]:
        """The exceptions."""
        return [end for end in self.all if end is not None]

    def others(self, *expected: type[Exception]) -> list[Exception]:
        """Those that are of none of the classes."""
        return [end for end in self.failed() if type(end) not in expected]


class Buffers:
    """Buffers that nobody holds but the commands that use them, watched."""

    def __init__(self) -> None:
        self._refs: list[weakref.ref[NDArray[np.uint8]]] = []

    def new(self, len_bytes: int) -> NDArray[np.uint8]:
        """One more."""
        buffer = np.zeros(len_bytes, np.uint8)
        self._refs.append(weakref.ref(buffer))
        return buffer

    def living(self) -> int:
        """How many are left."""
        gc.collect()
        return sum(ref() is not None for ref in self._refs)


async def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        await anyio.sleep(0.005)


async def all_in_flight(ns: aionvme.Namespace, n: int) -> None:
    """Until ``n`` commands have been submitted, and then until the ring has them."""
    await until(lambda: ns._io.submitted >= n)
    await anyio.sleep(0.01)


async def kept(buffers: Buffers, ns: aionvme.Namespace) -> None:
    """Look until nothing is in flight any more: as long as something is, no fewer buffers are left.

    Only where each command that is submitted meanwhile has one of them.
    """
    while in_flight := ns._io.in_flight:
        assert buffers.living() >= in_flight
        await anyio.sleep(0.05)


async def works(ns: aionvme.Namespace) -> None:
    """What is written can be read."""
    data = np.random.default_rng().integers(0, 256, ns.lba_size, np.uint8)
    await ns.write(7, data)
    assert (await ns.read(7, 1) == data).all()


async def answers_again(ns: aionvme.Namespace) -> None:
    """Where the kernel counts paths it refuses commands as long as the only one is being reset."""
    with anyio.fail_after(30):
        while True:
            try:
                await ns.read(0, 1)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EFAULT):
                    raise
                await anyio.sleep(0.02)
            else:
                return


async def comes_back(controller: str, nsid: int) -> str:
    """Wait for a namespace to be there and to answer; its name."""
    with anyio.fail_after(30):
        while True:
            try:
                found = node(nsid, controller)
                async with aionvme.open(found, queue="interrupt") as ns:
                    await works(ns)
            except (LookupError, OSError, aionvme.AionvmeError):
                await anyio.sleep(0.02)
            else:
                return found
