"""The two event loops, asyncio (uvloop included) and trio, as the driver needs them.

A host is bound when a queue opens: it remembers the loop, runs the driver's *turn* (submit, reap, wake) on it, and lets tasks
wait for requests. A turn says how long the next one may wait: 0.0 for the loop's next pass, a number of seconds, infinity for
"until the queue's file descriptor is readable", or None where nothing is in flight.

A command in flight cannot be taken back from a device, so waiting for one cannot be cancelled either: it is put off until the
command has completed. The two loops want that said differently.

- trio asks the waiting task's abort function, and takes FAILED for an answer. The cancellation is delivered at the task's next
  checkpoint, and the command's outcome is not lost.
- asyncio throws CancelledError into the task whatever it waits for. It is caught, the completion is awaited, and then the same
  CancelledError goes on. The second wait sits in a shielded anyio scope, because anyio throws again on every pass of the loop
  at a task that is not shielded and does not end; plain Task.cancel() calls ignore that shield, hence the loop around it.
"""

import asyncio
import math
import sys
from asyncio import events
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from aionvme.driver.causes import note_failure
from aionvme.errors import UsageError

if TYPE_CHECKING:
    import trio

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


def bind(turn: Turn, fileno: int | None, ended: Callable[[], None]) -> Host:
    """The host for the event loop that is running now. ``ended`` is called where a turn that was to come will not.

    trio is asked first: in its guest mode another loop runs underneath.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return TrioHost(turn, fileno, ended)
    if events._get_running_loop() is not None:
        return AsyncioHost(turn, fileno)
    raise UsageError("no event loop is running: open a namespace inside of asyncio.run(), anyio.run() or trio.run()")


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


class TrioHost(Host):
    """A trio run: one system task makes the turns, another watches the file descriptor.

    When the run's main task has ended, trio cancels its system tasks. Others of them may still be waiting for commands, and
    those do not leave before the commands have completed: so the turns go on, shielded, until nobody waits.
    """

    parks = True

    def __init__(self, turn: Turn, fileno: int | None, ended: Callable[[], None]) -> None:
        import trio

        self._trio = trio
        self.cancelled: type[BaseException] = trio.Cancelled
        self._turn = turn
        self._ended = ended
        self._fileno = fileno
        self.loop: Any = trio.lowlevel.current_trio_token()
        self._parked: trio.lowlevel.Task | None = None
        self._scopes: list[trio.CancelScope] = []
        self._closed = False
        self._waiting = 0
        self._refused: trio.lowlevel.Abort = trio.lowlevel.Abort.FAILED
        self._declined = False

    def here(self) -> bool:
        """Whether this thread is inside our trio run."""
        try:
            return self._trio.lowlevel.current_trio_token() is self.loop
        except RuntimeError:
            return False

    def running(self) -> object:
        """See :attr:`Host.running`: the wait that follows declines to be cancelled, so a cancelled task must not get there.

        Nor must one that is to be interrupted, which trio tells only in that wait: the next goes the long way, by a checkpoint.
        """
        if not self.here() or self._declined or self._trio.current_effective_deadline() == -math.inf:
            return None
        return self.loop

    def idle(self) -> bool:
        """Whether no other task is runnable."""
        return self._trio.lowlevel.current_statistics().tasks_runnable == 0

    def kick(self) -> None:
        """Run a turn on the next pass: where the task is not parked, it is about to make one anyway."""
        if not self._unpark() and not self._scopes:
            self._start()

    def wake(self, waiting: Waiting) -> None:
        """Put the waiting task on the run queue."""
        if waiting.waiter is not None:
            self._trio.lowlevel.reschedule(waiting.waiter)
            waiting.waiter = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> Alarm:
        """See :meth:`Host.call_later`. A system task for each call, shielded: who waits for it may outlive the main task."""
        scope = self._trio.CancelScope(shield=True)

        async def ring() -> None:
            with scope:
                await self._trio.sleep(delay)
                callback()

        self._trio.lowlevel.spawn_system_task(ring, name="aionvme alarm")
        return scope

    async def checkpoint_if_cancelled(self) -> None:
        """The wait that follows declines to be cancelled, so this is where a cancelled task gets its exception."""
        self._declined = False
        await self._trio.lowlevel.checkpoint_if_cancelled()

    async def wait(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait`."""

        def refuse(_: object) -> "trio.lowlevel.Abort":
            self._declined = True
            if waiting.stop is not None and waiting.pending:
                waiting.stop()
            return self._refused

        self._waiting += 1
        try:
            while waiting.pending:
                waiting.waiter = self._trio.lowlevel.current_task()
                await self._trio.lowlevel.wait_task_rescheduled(refuse)
        finally:
            self._waiting -= 1
            waiting.waiter = None  # a coroutine that is closed by force leaves no task to be woken

    async def wait_out(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait_out`."""
        await self.wait(waiting)

    async def wait_or_leave(self, waiting: Waiting) -> None:
        """See :meth:`Host.wait_or_leave`."""
        waiting.waiter = self._trio.lowlevel.current_task()

        def abort(_: object) -> "trio.lowlevel.Abort":
            waiting.waiter = None
            succeeded: trio.lowlevel.Abort = self._trio.lowlevel.Abort.SUCCEEDED
            return succeeded

        await self._trio.lowlevel.wait_task_rescheduled(abort)

    def close(self) -> None:
        """End the system tasks."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        self._unpark()  # still parked where the run is ending: that wait is shielded

    def _unpark(self) -> bool:
        if self._parked is None:
            return False
        # In this order: a signal's handler that raises in between must not leave the task parked for good.
        self._trio.lowlevel.reschedule(self._parked)
        self._parked = None
        return True

    def _start(self) -> None:
        turns = self._trio.CancelScope()
        self._trio.lowlevel.spawn_system_task(self._make_turns, turns, name="aionvme turns")
        self._scopes = [turns]
        if self._fileno is not None:
            watch = self._trio.CancelScope(shield=True)
            self._trio.lowlevel.spawn_system_task(self._watch, watch, self._fileno, name="aionvme wake-ups")
            self._scopes.append(watch)

    async def _make_turns(self, scope: "trio.CancelScope") -> None:
        with scope:
            try:
                while True:
                    await self._rest(self._turn())
            finally:
                with self._trio.CancelScope(shield=not self._closed):
                    while self._waiting and not self._closed and (delay := self._turn()) is not None:
                        await self._rest(delay)
                for each in self._scopes:
                    each.cancel()
                self._scopes = []
                self._ended()

    async def _rest(self, delay: float | None) -> None:
        if delay is not None and delay < SOON_S:
            await self._trio.lowlevel.checkpoint()
            return
        with self._trio.move_on_after(float("inf") if delay is None else delay):
            await self._park()

    async def _park(self) -> None:
        def abort(_: object) -> "trio.lowlevel.Abort":
            self._parked = None
            succeeded: trio.lowlevel.Abort = self._trio.lowlevel.Abort.SUCCEEDED
            return succeeded

        self._parked = self._trio.lowlevel.current_task()
        await self._trio.lowlevel.wait_task_rescheduled(abort)

    async def _watch(self, scope: "trio.CancelScope", fileno: int) -> None:
        with scope:
            while (
                not self._closed
            ):  # what is closed may be so before this task has begun, and the descriptor another's by now
                await self._trio.lowlevel.wait_readable(fileno)
                self.kick()
                # Let the turn go first: it makes the file descriptor unreadable again.
                await self._trio.lowlevel.checkpoint()
