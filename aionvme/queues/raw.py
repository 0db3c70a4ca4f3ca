"""The raw queue: a hardware queue pair that the block layer never sees, registered with one ring and polled by it directly.

No released kernel has raw queues. Two kinds of kernel can: Linux 6.1 with the patches in ``_native/kernel``, whose controllers
say in sysfs how many there are; and the proposal those follow (the RFC "directq", April 2023), which shares the calls' numbers,
not the care. On the latter kind a command takes the raw queue only where nothing can go wrong with it; see
:class:`ProposedRawQueue`.
"""

import errno
import time

from aionvme._core import lib
from aionvme.devices import GenericDevice, driver_parameter
from aionvme.nvme.command import decode, is_vectored
from aionvme.queues.base import Entries, Queue
from aionvme.queues.batch import Batch
from aionvme.queues.ring import RingQueue
from aionvme.queues.split import SplitQueue

PAGE_SIZE = 4096

FREED_WITHIN_S = 0.2
"""A queue is free again some milliseconds after its process has died: opening waits for that, and the loop with it."""


def why_not_raw(device: GenericDevice) -> str | None:
    """Why a device's commands cannot take a raw queue, None where they can if one is free.

    Raises OSError where there is no io_uring.
    """
    queues = driver_parameter("raw_queues")
    if queues is None:
        return "this kernel's nvme driver has no raw queues (parameter raw_queues): they never reached mainline Linux"
    if queues == 0:
        return "the driver keeps no raw queues: load it with nvme.raw_queues=1 or more"
    if not RingQueue.raw_supported():
        return "this kernel's io_uring cannot register a queue, though its nvme driver has the parameter raw_queues"
    numbers = raw_queues(device)
    if numbers is None and queues > 1:
        return (
            f"raw_queues is {queues}, and this kernel's raw queues, which are those of the first proposal, lose all but one: "
            "load the driver with nvme.raw_queues=1"
        )
    if numbers is not None and not numbers[0]:
        return f"{device.controller} has no raw queues: the kernel's log says how many queues it granted"
    return None


def raw_queues(device: GenericDevice) -> tuple[int, int] | None:
    """How many raw queues a device's controller has, and how many of them are free; None on a kernel that does not say."""
    text = device.controller_attribute("raw_queues")
    if text is None:
        return None
    total, free = map(int, text.split())
    return total, free


def open_raw_queue(device: GenericDevice, fd: int, *, depth: int) -> Queue:
    """Register a raw queue for the device that is open as ``fd``.

    Raises OSError: EINVAL where none is free, EACCES without CAP_SYS_ADMIN, and what :class:`RingQueue` raises.
    """
    own = raw_queues(device) is not None
    deadline = time.monotonic() + FREED_WITHIN_S
    while True:
        try:
            ring = RingQueue(fd, lib.NVME_URING_CMD_IO, kind="raw", depth=depth)
        except OSError as error:
            if error.errno != errno.EINVAL or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return RawQueue(ring, fd) if own else ProposedRawQueue(ring, fd)


class RawQueue(SplitQueue):
    """A raw queue of our own kernel's. It takes every command but those whose data is in several pieces."""

    detour = "commands with data in several pieces are interrupt driven"

    def __init__(self, ring: RingQueue, fd: int) -> None:
        """Take over a ring of kind "raw"."""
        super().__init__(ring, fd, lib.NVME_URING_CMD_IO)
        self.port = ring.port
        self._both = False

    def takes(self, entry: bytes, buf_index: int) -> bool:
        """Whether the data is in one piece."""
        if not is_vectored(entry):
            return True
        self._both = True
        return False

    def tick(self, budget: int) -> Entries:
        """That of the raw ring, until the other one has had a command: so long it costs nothing."""
        return super().tick(budget) if self._both else self._better.tick(budget)

    def pause(self, idle: bool) -> float:
        """In the same way."""
        return super().pause(idle) if self._both else self._better.pause(idle)

    def takes_batch(self, batch: Batch) -> bool:
        """All of them."""
        return True


class ProposedRawQueue(SplitQueue):
    """A raw queue of the first proposal's kernel, used only as far as that is safe; all other commands are interrupt driven.

    There a command with an offset into its registered buffer goes to the wrong memory, one of several pages to the block layer,
    metadata and time-outs are ignored, and without data it has nothing to be polled for. Closing a ring frees the table of its
    commands while they are in flight.
    """

    detour = "commands are interrupt driven unless they start where a buffer of ns.alloc() has a page, and are no longer than it"

    def __init__(self, ring: RingQueue, fd: int) -> None:
        """Take over a ring of kind "raw"."""
        super().__init__(ring, fd, lib.NVME_URING_CMD_IO)
        self._bases: dict[int, int] = {}

    def takes(self, entry: bytes, buf_index: int) -> bool:
        """Whether the command has all of what such a kernel's raw queue can do, and nothing else."""
        if buf_index < 0:
            return False
        command, pointers = decode(entry)
        return (
            pointers.addr == self._bases[buf_index]
            and 0 < pointers.data_len <= PAGE_SIZE
            and not pointers.metadata
            and not pointers.metadata_len
            and not command.timeout_ms
        )

    def takes_batch(self, batch: Batch) -> bool:
        """None: what such a kernel gets wrong would have to be looked for in each command."""
        return False

    def register(self, addr: int, len_bytes: int) -> int | None:
        """Register memory of one page, and remember where it is."""
        buf_index = super().register(addr, len_bytes) if len_bytes <= PAGE_SIZE else None
        if buf_index is not None:
            self._bases[buf_index] = addr
        return buf_index

    def unregister(self, buf_index: int) -> None:
        """Give a page back."""
        del self._bases[buf_index]
        super().unregister(buf_index)

    def close(self) -> None:
        """Close both rings; with commands in flight the raw one stays open until the process ends."""
        if self._better.busy:
            self._other.close()
        else:
            super().close()
