"""asyncio as a host, uvloop included."""

import asyncio
import math
from asyncio import events
from collections.abc import Callable
from contextlib import suppress

import anyio

from aionvme.driver.host import SOON_S, Alarm, Host, Turn, Waiting


class AsyncioHost(Host):
    """asyncio's loop, or another that speaks its protocol."""

    cancelled: type[BaseException] = asyncio.CancelledError
    running: Callable[[], object] = staticmethod(events._get_running_loop)
    parks = False

    def __init__(self, turn: Turn, fileno: int | None) -> None:
        self._turn = turn
        self._fileno = fileno
        self.loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None
        self._timed = False
        if fileno is not None:
            self.loop.add_reader(fileno, self._run)

    def here(self) -> bool:
        """Whether this thread is running our loop: one look-up of a thread-local answers for both."""
        return events._get_running_loop() is self.loop

    def idle(self) -> bool:
        """Whether nothing is ready; uvloop does not tell, and counts as busy."""
        return not getattr(self.loop, "_ready", True)

    def kick(self) -> None:
        """Run a turn on the next pass, also where one was to come later."""
        if self._next is None or self._timed:
            self._schedule(0.0)

    def wake(self, waiting: Waiting) -> None:
        """Set the future; the task runs on a later pass, when all completions of this one have been taken in."""
        waiter: asyncio.Future[None] | None = waiting.waiter
        if waiter is not None and not waiter.done() and not self.loop.is_closed():
            waiter.set_result(None)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Alarm:
        """See :meth:`Host.call_later`."""
        return self.loop.call_later(delay, callback)

    async def checkpoint_if_cancelled(self) -> None:
        """Nothing: asyncio throws at a task when it waits, and asking anyio's scopes costs as much as the command."""

    async def wait(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait`; raises CancelledError only at the end."""
        try:
            while waiting.pending:
                await self._park(waiting)
        except asyncio.CancelledError:
            await self.wait_out(waiting)
            raise

    async def wait_out(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait_out`."""
        with anyio.CancelScope(shield=True):
            while waiting.pending:
                with suppress(asyncio.CancelledError):
                    await self._park(waiting)

    async def wait_or_leave(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait_or_leave`."""
        await self._park(waiting)

    def close(self) -> None:
        """Forget the file descriptor and the turn to come."""
        if self._next is not None:
            self._next.cancel()
        if self._fileno is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._fileno)

    def _park(self, waiting: Waiting) -> asyncio.Future[None]:
        waiting.waiter = waiter = self.loop.create_future()
        return waiter

    def _run(self) -> None:
        # Called for the file descriptor as well, with another turn still to come.
        if self._next is not None:
            self._next.cancel()
            self._next = None
        delay: float | None = 0.0  # what a turn raises is what a task raised: there may be more to do
        try:
            delay = self._turn()
        finally:
            if delay is not None and delay != math.inf:
                self._schedule(delay)

    def _schedule(self, delay: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._timed = delay >= SOON_S
        if self._timed:
            self._next = self.loop.call_later(delay, self._run)
        else:
            self._next = self.loop.call_soon(self._run)
