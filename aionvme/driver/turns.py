"""A queue's life on one event loop: turns of submitting, reaping and waking, and every way in which it ends.

The invariant of the library lives here. A submission's ``keep`` is dropped when its completion has been reaped and at no other
time: not when the waiting task is cancelled, not when the namespace is left, not when the loop dies. Where a completion can no
longer come (the device is gone for good, the process left the loop behind), the memory is never given back at all.
"""

import errno
import threading
import time
import warnings
from itertools import chain

from aionvme.driver import hosts, process
from aionvme.driver.fast import IN_C, Flight, InFlight
from aionvme.driver.places import Places
from aionvme.driver.request import Waiter
from aionvme.driver.state import RUNNING, State
from aionvme.errors import ClosedError, WrongLoopError, os_error
from aionvme.nvme.command import TIMEOUT_MS_OFFSET
from aionvme.queues.base import Queue
from aionvme.queues.batch import Batch

REAP_BUDGET = 128 if IN_C else 64
"""Completions taken in at a time, so that other tasks of the loop get their turn."""

ROUNDS, TURN_S = 4, 0.0002
"""How often one turn of the loop goes on at once with what the tasks that it woke have submitted, and after how long no more."""

DRAIN_LIMIT_S = 90.0
"""How long closing waits for commands in flight. The kernel gives up on one after 30 s (or its own timeout_ms), and on a
controller that does not reset after as long again; past that nothing is going to come."""


class Turns:
    """What a driver does whoever it does it for."""

    def __init__(self, queue: Queue, target: str) -> None:
        """Bind ``queue`` to the running loop; ``target`` names the device."""
        self.queue = queue
        self._target = target
        self._state = State.OPEN
        self._thread = threading.get_ident()
        self._host = hosts.bind(self._turn, queue.fileno(), self._no_turn_due)
        self.flights = InFlight(queue, self._host)
        self._places = Places(self._host, self.flights)
        self._batches: dict[Batch, Flight] = {}
        self._batched = 0
        self._drains: list[Waiter] = []
        self._drain_deadline = 0.0
        self._in_lines: set[Waiter] = set()  # of limiters
        process.drivers.add(self)

    def check_usable(self) -> None:
        """Raise unless the caller may use the queue: ClosedError, or WrongLoopError on another thread or loop."""
        if self._state is not State.OPEN:
            raise ClosedError(f"{self._target} is {self._state.value}: open it again")
        self._check_here()

    def check_closable(self) -> None:
        """Raise WrongLoopError on another thread or loop than the one that opened the queue, unless it needs no closing."""
        if self._state not in (State.CLOSED, State.FORKED):
            self._check_here()

    def _check_here(self) -> None:
        if not self._host.here():
            raise WrongLoopError(
                f"{self._target} belongs to the thread and event loop that opened it: open it once for each"
            )

    @property
    def in_flight(self) -> int:
        """Commands submitted and not completed, a batch counting as one."""
        return len(self.flights) + len(self._batches)

    @property
    def submitted(self) -> int:
        """Commands submitted since the queue was opened."""
        return self.flights.submitted + self._batched

    async def retire(self) -> bool:
        """Refuse new commands, also those that wait for a place, and wait for those in flight; whether that is news.

        What follows may give the namespace blocks of another size: whoever reckons with the old one would have the device write
        past its buffers. Raises as :meth:`check_usable`, or the OSError that the queue breaks with; a task that is cancelled
        leaves everything as it was.
        """
        news = self._state is State.OPEN
        if news:
            self._refuse(State.RETIRED)
        elif self._state is not State.RETIRED:
            self.check_usable()
        try:
            (await self._drained()).raise_error()
        except BaseException:
            if news:
                self.reinstate()
            raise
        return news

    def reinstate(self) -> None:
        """Take commands again: what :meth:`retire` was for has not happened."""
        if self._state is State.RETIRED:
            self._state = State.OPEN
            self.flights.open = True

    async def aclose(self) -> None:
        """Refuse new commands, wait for those in flight, and close the queue.

        Raises OSError (ETIMEDOUT) where some did not complete within :data:`DRAIN_LIMIT_S`, or twice their own time-out if that
        is longer; whoever waits for one gets the same. WrongLoopError on another loop, with nothing changed.
        """
        if self._state in (State.CLOSED, State.FORKED):
            return
        self._check_here()
        if self._state is not State.CLOSING:
            self._drain_deadline = time.monotonic() + self._drain_limit()
            self._refuse(State.CLOSING)
        try:
            drained = await self._drained()
        finally:
            if self._state is State.CLOSING or self._state is State.BROKEN:
                self._host.close()
                self._close_queue()
        drained.raise_error()

    def _refuse(self, state: State) -> None:
        """Take no more commands, and submit no more of those that were taken."""
        self._state = state
        self.flights.open = False
        self._dismiss()
        for batch in self._batches:
            self.queue.stop_batch(batch)

    async def _drained(self) -> Waiter:
        """Wait until nothing is in flight; where the queue has broken meanwhile, the waiter has the error."""
        drained = Waiter()
        if self.in_flight:
            self._drains.append(drained)
            self._host.kick()
            await self._host.wait(drained)
        return drained

    def __del__(self) -> None:
        if getattr(self, "_host", None) is None or self._state in (State.CLOSED, State.FORKED):
            return
        try:
            warnings.warn(f"{self._target} was never closed", ResourceWarning, source=self, stacklevel=1)
        finally:  # a program may have made errors of warnings
            self.drain_without_loop()

    def _turn(self) -> float | None:
        """Submit, reap and wake, and submit at once what the tasks that were woken have; answers as :data:`host.Turn` does.

        Raises KeyboardInterrupt and SystemExit where a task does.
        """
        flights = self.flights
        flights.turn_due = True
        budget, submitted, end = REAP_BUDGET, self.submitted, time.monotonic() + TURN_S
        delay: float | None = None
        try:
            for _ in range(ROUNDS):
                submitted = self.submitted
                landed, delay = self._round(budget)
                budget -= landed
                flights.wake()
                if self.submitted == submitted and (landed or delay != 0.0):
                    return delay  # nothing new, and nothing that a queue which lingered has found
                if time.monotonic() > end:
                    break
            return 0.0
        finally:
            flights.turn_due = delay == 0.0 or self.submitted != submitted

    def _no_turn_due(self) -> None:
        self.flights.turn_due = False

    def _round(self, budget: int) -> tuple[int, float | None]:
        """Submit and reap; how many have landed, and when the next round is due. All that can go wrong ends here."""
        if self._state not in RUNNING:
            return 0, None
        try:
            landed = self.flights.land(self.queue.tick(budget))
            if landed:
                self._places.give(landed)
            progress = (bool(self._batches) and self._end_batches()) or landed > 0
            if not self.in_flight:
                self._finish_drain()
                return landed, None
            delay = 0.0 if progress else self.queue.pause(self._host.idle())
            return landed, self._limit(delay) if self._state is State.CLOSING else delay
        except OSError as error:
            self._break(error)
            return 0, None
        except BaseException as error:
            # A defect, ours or the kernel's (a completion that nobody asked for): loud, but with nobody left waiting.
            self._break(os_error(errno.EIO, f"the queue of {self._target} is in disorder: {error!r}"))
            raise

    def _end_batches(self) -> bool:
        ended = self.queue.ended_batches()
        for batch in ended:
            if (ticket := self._batches.pop(batch, None)) is not None:
                self.flights.settle(ticket)
        return bool(ended)

    def _limit(self, delay: float | None) -> float | None:
        """While draining, come back in time to give up."""
        left = self._drain_deadline - time.monotonic()
        if left <= 0:
            self._break(os_error(errno.ETIMEDOUT, f"closing {self._target} with {self.in_flight} commands in flight"))
            return None
        return left if delay is None else min(delay, left)

    def _drain_limit(self) -> float:
        singles = (flight.timeout_ms for flight in self.flights.flights())
        batches = (int(batch.field(TIMEOUT_MS_OFFSET, 4).max()) for batch in self._batches)
        return max(DRAIN_LIMIT_S, max(chain(singles, batches), default=0) / 1000 * 2)

    def _break(self, error: OSError) -> None:
        """No completion will come any more: end every wait, and keep every buffer for good."""
        self._abandon()
        self._state = State.BROKEN
        self._host.close()
        self._end_waits(error)
        self._finish_drain(error)

    def _abandon(self) -> None:
        process.abandoned.append((self.flights.flights(), list(self._batches), self.queue))

    def _end_waits(self, error: Exception) -> None:
        self.flights.open = False
        n = len(self.flights)
        self.flights.fail(error)
        self._dismiss()
        for ticket in self._batches.values():
            self.flights.fail_one(ticket, error)
        self._batches.clear()
        self._places.give(n)

    def _dismiss(self) -> None:
        """Nothing is submitted any more: who waits in a limiter's line, perhaps for long, need not."""
        for waiter in self._in_lines:
            self._host.wake(waiter)

    def _finish_drain(self, error: OSError | None = None) -> None:
        for drained in self._drains:
            drained.error = error
            drained.pending = False
            self._host.wake(drained)
        self._drains.clear()

    def drain_without_loop(self) -> None:
        """Wait for commands in flight by blocking, wake nobody, and close the queue.

        On another thread than the queue's own nothing can be done but to keep it all: that thread may be inside the ring.
        """
        self.flights.open = False
        if self._state is State.FORKED:
            return
        if threading.get_ident() != self._thread:
            self._abandon()
            self._state = State.CLOSED
            return
        deadline = time.monotonic() + process.ORPHAN_DRAIN_LIMIT_S
        try:
            for batch in self._batches:
                self.queue.stop_batch(batch)
            while self.in_flight and time.monotonic() < deadline:
                self.flights.land(self.queue.tick(REAP_BUDGET))
                for batch in self.queue.ended_batches():
                    del self._batches[batch]
                time.sleep(0.001)
        except (OSError, LookupError):
            pass  # a broken ring: nothing more can be reaped, so everything is kept
        finally:
            self._close_queue()

    def _close_queue(self) -> None:
        if self.in_flight:
            self._abandon()
            self._batches.clear()
        self.flights.open = False
        self._state = State.CLOSED
        process.drivers.discard(self)
        self.queue.close()

    def leave_behind(self) -> None:
        """We are a forked child's copy: the parent's ring and its completions are not to be touched."""
        self._state = State.FORKED
        self.flights.open = False

    def end_waits_in_child(self) -> None:
        """End the waits of tasks that the child has inherited, where their loop can still run them."""
        self._end_waits(ClosedError(f"{self._target} is {self._state.value}: its commands are not the child's"))
