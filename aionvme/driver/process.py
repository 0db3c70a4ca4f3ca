"""What a process keeps beside its event loops: the drivers that are open when it forks or ends, and memory without a future."""

import atexit
import os
import weakref
from contextlib import suppress
from typing import Protocol

ORPHAN_DRAIN_LIMIT_S = 5.0
"""How long commands in flight are waited for where no loop is left and the wait blocks a thread: at exit and in a finaliser."""


class Orphan(Protocol):
    """What a driver does when its loop is gone, or is not its own."""

    def drain_without_loop(self) -> None:
        """Wait for commands in flight by blocking, and close the queue."""

    def leave_behind(self) -> None:
        """Never touch the queue again: it is the parent's."""

    def end_waits_in_child(self) -> None:
        """End what waits for the parent's commands. May raise RuntimeError where the loop cannot run."""


drivers: "weakref.WeakSet[Orphan]" = weakref.WeakSet()
"""Those that are open."""

abandoned: list[object] = []
"""Memory that a device may still write to, for as long as the process lives."""


@atexit.register
def _drain_at_exit() -> None:
    """A process that ends with commands in flight leaves them to a kernel worker: wait for them instead."""
    for driver in list(drivers):
        with suppress(RuntimeError):  # somebody waits on a loop that is closed: the others are drained all the same
            driver.drain_without_loop()


def _leave_behind_in_child() -> None:
    """The ring's memory is shared with the parent: a child that touched it would take the parent's completions."""
    left_behind = list(drivers)
    drivers.clear()
    for driver in left_behind:
        driver.leave_behind()
    for driver in left_behind:
        with suppress(RuntimeError):  # a loop that was closed, or is another thread's: nobody waits there any more
            driver.end_waits_in_child()


os.register_at_fork(after_in_child=_leave_behind_in_child)
