"""The polled queue: a polled ring for commands that move data, an interrupt driven one beside it for those that move none.

Two reasons. A command without data (flush, zone management, write zeroes) takes the device long and leaves nothing to gain from
asking in a loop. And Linux 6.1 to 6.4 crash on one: such a request has no bio, so the driver sends it to an interrupt
queue, whose completion stores a function pointer where the poller of the same ring looks for the bio (``cookie`` and
``task_work_cb`` share a union in struct io_uring_cmd). Linux 6.5 tells the two apart by a flag, 6.8 has no union.
The crash was seen on 6.1; the other versions are read off the kernel's history. Commands that fail while others of the ring are
in flight can come to the same end there, and no second ring helps against that: so "auto" does not poll on those kernels.
"""

from aionvme.devices import GenericDevice, driver_parameter, kernel_version
from aionvme.nvme.command import DATA_LEN_OFFSET, data_len_of
from aionvme.queues.batch import Batch
from aionvme.queues.ring import RingQueue
from aionvme.queues.split import SplitQueue


class PolledQueue(SplitQueue):
    """Commands for one character device, polled for where they move data."""

    detour = "commands without data are interrupt driven"

    def __init__(self, fd: int, cmd_op: int, *, depth: int, sqpoll: bool = False) -> None:
        """Open both rings, the polled one with a thread of the kernel's if ``sqpoll``; raises as :class:`RingQueue` does."""
        super().__init__(RingQueue(fd, cmd_op, kind="polled", depth=depth, sqpoll=sqpoll), fd, cmd_op)
        self.port = self._better.port

    def takes(self, entry: bytes, buf_index: int) -> bool:
        """Whether the command moves data."""
        return data_len_of(entry) > 0

    def takes_batch(self, batch: Batch) -> bool:
        """Whether all of its commands move data."""
        return bool(batch.field(DATA_LEN_OFFSET, 4).all())


def why_not_polled(device: GenericDevice) -> str | None:
    """Why a device's commands cannot be polled for, None where they can. Raises OSError where there is no io_uring."""
    if device.queue_limit("io_poll") != 1:
        queues = driver_parameter("poll_queues")
        if queues:
            return (
                f"its controller has no queues for polling, though poll_queues is {queues}: it came up before that was set, or "
                "gave the driver too few queues"
            )
        return (
            f"the driver keeps no queues for polling: load it with nvme.poll_queues=2 or so (poll_queues is {queues})"
        )
    if not RingQueue.polling_supported():
        return "polled passthrough needs Linux 6.1"
    return None


def why_auto_does_not_poll() -> str | None:
    """Why "auto" does not poll where polling can be had, None where it does."""
    if kernel_version() < (6, 5):
        return (
            "Linux before 6.5 can crash in its polling of passthrough commands, above all when one fails; queue='polled' polls "
            "all the same, and sends what moves no data another way"
        )
    return None
