"""What the driver is given to do, and what it keeps while a task waits."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aionvme.nvme.status import Status

if TYPE_CHECKING:
    from aionvme.driver.limiter import Limiter


class Submission(NamedTuple):
    """One command, ready for a queue.

    ``entry`` is its ``nvme_uring_cmd``, ``buf_index`` the registered buffer it uses or -1, ``keep`` whatever must stay alive
    until it completes: its data pointers are addresses inside of that.
    """

    entry: bytes
    buf_index: int = -1
    keep: object = None


class Request:
    """Commands that one task waits for together."""

    __slots__ = ("error", "failed", "limiter", "outcomes", "pending", "stop", "waiter")

    def __init__(self, limiter: "Limiter | None" = None) -> None:
        self.limiter = limiter
        """What its commands had to pass, and are given back to one by one."""
        self.pending = 0
        """Commands submitted and not completed."""
        self.outcomes: list[tuple[int, int]] = []
        """(res, result) of each command, in the order of submission."""
        self.failed = False
        """One of them completed with anything but success."""
        self.error: Exception | None = None
        """Why the outcomes will never come: the queue broke, or a fork left it behind."""
        self.stop: Callable[[], None] | None = None
        """Called where the waiting task is cancelled: what has not been submitted yet need not be."""
        self.waiter: Any = None
        """What the host wakes: a future or a task, once somebody waits."""

    def raise_error(self) -> None:
        """Raise the error, if there is one: each task an exception of its own, to which it adds its traceback."""
        if self.error is not None:
            raise type(self.error)(*self.error.args) from self.error

    def failure(self) -> str:
        """What went wrong with the first command that failed, in words."""
        res = next(res for res, _ in self.outcomes if res)
        return repr(Status(res)) if res > 0 else os.strerror(-res)
