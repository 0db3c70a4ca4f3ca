"""What the driver needs of an event loop; hosts.py says what is hard about it."""

from collections.abc import Callable
from typing import Any, Protocol

from aionvme.driver.causes import note_failure

Turn = Callable[[], float | None]

SOON_S = 0.0005
"""A shorter wait than this is a pass of the loop: its timers are no finer than a millisecond."""


class Alarm(Protocol):
    """A call that is to come."""

    def cancel(self) -> object:
        """Have it not come."""


class Waiting(Protocol):
    """What a task can wait for here: a :class:`~aionvme.driver.request.Waiter` or a flight."""

    waiter: Any
    """What the host wakes: a future or a task, once somebody waits."""

    @property
    def stop(self) -> Callable[[], None] | None:
        """Called where the task is cancelled."""

    @property
    def pending(self) -> bool:
        """Whether there is still something to wait for."""


class Landing(Waiting, Protocol):
    """A flight."""

    res: int
    """How it ended."""


class Host(Protocol):
    """An event loop, bound to one driver."""

    loop: Any
    """What tells the loop from others."""

    parks: bool
    """A task waits for a flight by :meth:`wait`, and not for the flight itself as for a future."""

    cancelled: type[BaseException]
    """What the loop throws at a task that is cancelled."""

    def here(self) -> bool:
        """Whether the caller runs on this loop."""

    @property
    def running(self) -> Callable[[], object]:
        """Gives ``loop`` where the caller may submit: it runs on this loop and is not cancelled, where that is told before."""

    def idle(self) -> bool:
        """Whether, inside of a turn, no other task or callback is known to wait for the loop."""

    def kick(self) -> None:
        """Run a turn on the loop's next pass."""

    def wake(self, waiting: Waiting) -> None:
        """Let the task go on that waits."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Alarm:
        """Call back in ``delay`` seconds, also when the host has been closed."""

    async def checkpoint_if_cancelled(self) -> None:
        """Before anything is submitted: raise where the loop knows the task to be cancelled already."""

    async def wait(self, waiting: Waiting) -> None:
        """Wait until it is not pending any more; a cancellation is put off until then."""

    async def wait_out(self, waiting: Waiting) -> None:
        """The same for a task that has been cancelled already: nothing cancels this wait."""

    async def put_off(self, flight: Landing, cancellation: BaseException) -> None:
        """Wait for the flight of a task that has been cancelled, then raise the cancellation, which says so where it failed."""
        try:
            if flight.stop is not None and flight.pending:
                flight.stop()
            await self.wait_out(flight)
            note_failure(cancellation, flight.res)
            raise cancellation
        finally:
            del cancellation, flight

    async def wait_or_leave(self, waiting: Waiting) -> None:
        """Wait until it is woken, or until the task is cancelled."""

    def close(self) -> None:
        """Run no more turns."""
