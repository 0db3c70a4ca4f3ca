"""What the driver is given to do, and what it keeps while a task waits."""

from typing import TYPE_CHECKING, Any, NamedTuple

from aionvme.nvme.command import timeout_ms_of

if TYPE_CHECKING:
    from aionvme.driver.flight import Flight
    from aionvme.driver.limiter import Limiter


class Submission(NamedTuple):
    """One command, ready for a queue.

    ``entry`` is its ``nvme_uring_cmd``, ``buf_index`` the registered buffer it uses or -1, ``keep`` whatever must stay alive
    until it completes: its data pointers are addresses inside of that.
    """

    entry: bytes
    buf_index: int = -1
    keep: object = None


class Group:
    """Commands that one task waits for together."""

    __slots__ = ("failed", "limiter", "sent")

    def __init__(self, limiter: "Limiter | None" = None) -> None:
        self.limiter = limiter
        """What they had to pass, and are given back to one by one."""
        self.failed = False
        """One of them completed with anything but success."""
        self.sent = False
        """One of them has been handed to the queue."""

    def launched(self, flight: "Flight", entry: bytes) -> None:
        """One of them is in flight."""
        self.sent = True
        flight.group = self
        flight.timeout_ms = timeout_ms_of(entry)

    def landed(self, res: int) -> None:
        """One of them is no longer in flight."""
        self.failed |= res != 0
        if self.limiter is not None:
            self.limiter.give()


class Waiter:
    """A task that waits for something else than commands: a place, the end of everything."""

    __slots__ = ("error", "pending", "waiter")

    stop = None

    def __init__(self) -> None:
        self.pending = True
        self.error: Exception | None = None
        """Why what it waits for will never come."""
        self.waiter: Any = None
        """What the host wakes: a future or a task."""

    def raise_error(self) -> None:
        """Raise the error, if there is one: each task an exception of its own, to which it adds its traceback."""
        if self.error is not None:
            raise type(self.error)(*self.error.args) from self.error
