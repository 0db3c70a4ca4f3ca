"""trio as a host."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aionvme.driver.host import SOON_S, Alarm, Host, Turn, Waiting

if TYPE_CHECKING:
    import trio


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
