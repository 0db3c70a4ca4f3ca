"""Commands in flight: who waits for them, what memory they own, when the loop must look after them.

The invariant of the library lives here. A submission's ``keep`` is dropped when its completion has been reaped and at no other
time: not when the waiting task is cancelled, not when the namespace is left, not when the loop dies. Where a completion can no
longer come (the device is gone for good, the process left the loop behind), the memory is never given back at all.
"""

import atexit
import errno
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import chain

from aionvme.driver import hosts
from aionvme.driver.causes import CQE_CAUSES
from aionvme.driver.limiter import Limiter
from aionvme.driver.places import Places
from aionvme.driver.request import Request, Submission
from aionvme.errors import ClosedError, WrongLoopError, os_error
from aionvme.nvme.command import TIMEOUT_MS_OFFSET, data_len_of, timeout_ms_of
from aionvme.nvme.status import Completion, Status
from aionvme.queues.base import Queue
from aionvme.queues.batch import Batch

REAP_BUDGET = 64
"""Completions taken in by one turn, so that other tasks of the loop get theirs."""

DRAIN_LIMIT_S = 90.0
"""How long closing waits for commands in flight. The kernel gives up on a command after 30 s (or the command's
own timeout_ms), and on a controller that does not reset after as long again; past that nothing is going to come."""

ORPHAN_DRAIN_LIMIT_S = 5.0
"""The same where no loop is left and the wait blocks a thread: at interpreter exit and in a finaliser."""


class _State(Enum):
    OPEN = "open"
    CLOSING = "closing"
    BROKEN = "broken"
    CLOSED = "closed"
    FORKED = "left behind by a fork"


_drivers: "weakref.WeakSet[Driver]" = weakref.WeakSet()

_abandoned: list[object] = []
"""Memory that a device may still write to, for as long as the process lives."""


class Driver:
    """One queue on one event loop."""

    def __init__(self, queue: Queue, target: str) -> None:
        """Take over ``queue`` and bind it to the running loop; ``target`` names the device in messages."""
        self.queue = queue
        self._target = target
        self._state = _State.OPEN
        self._thread = threading.get_ident()
        self._in_flight: dict[int, tuple[Request, int, Submission]] = {}
        self._batches: dict[Batch, Request] = {}
        self._next_user_data = 0
        self._drains: list[Request] = []
        self._drain_deadline = 0.0
        self._host = hosts.bind(self._turn, queue.fileno())
        self._places = Places(self._host, queue.depth)
        self._in_lines: set[Request] = set()  # of limiters
        _drivers.add(self)

    async def run(self, submissions: Sequence[Submission], limiter: Limiter | None = None) -> list[Completion]:
        """Submit commands, as many at a time as there is room for, and wait for all of them.

        With a ``limiter``, bound to this driver's loop, each passes that first.

        After one has failed, those not yet submitted stay so: the answer is then shorter than the question, and its last
        failing completion says why. Raises OSError where the operating system, not the device, ended a command.
        """
        self.check_usable()
        await self._host.checkpoint_if_cancelled()
        request = Request(limiter)
        await self._carry_out(request, submissions, heedless=False)
        for res, _ in request.outcomes:
            if res < 0:
                raise os_error(-res, f"a command to {self._target}", CQE_CAUSES)
        if len(request.outcomes) < len(submissions) and not request.failed:
            self.check_usable()  # it closed while we waited for a place
        return [Completion(Status(res), result) for res, result in request.outcomes]

    async def run_batch(self, batch: Batch, limiter: Limiter | None = None) -> None:
        """Submit a batch, as many at a time as there is room for, and wait for all of it: the outcomes are in the batch.

        A task that is cancelled submits no more of it, and goes on when what was submitted has completed. Raises ClosedError
        where the queue closes before all of it was submitted.
        """
        self.check_usable()
        await self._host.checkpoint_if_cancelled()
        request = Request(limiter)
        if limiter is None:
            await self._carry_out_batch(request, batch)
        else:
            submissions = (Submission(batch.entry(i), batch.buf_index_of(i), batch) for i in range(batch.n))
            await self._carry_out(request, submissions, heedless=True)
            batch.stopped_at = len(request.outcomes)
            for i, (res, result) in enumerate(request.outcomes):
                batch.completions[i] = (max(res, 0), max(-res, 0), result, 0)
        if batch.stopped_at < batch.n:
            batch.completions["errno"][batch.stopped_at :] = errno.ECANCELED
            self.check_usable()
            await self._host.checkpoint_if_cancelled()  # on trio the wait does not raise

    async def _carry_out(self, request: Request, submissions: Iterable[Submission], *, heedless: bool) -> None:
        """Submit one after the other until one has failed, or ``heedless`` all, and wait until they have completed."""
        limiter = request.limiter
        try:
            for submission in submissions:
                if limiter is None:
                    if not self._places.take_nowait():
                        await self._places.take()
                elif not await self._pass(limiter, data_len_of(submission.entry)):
                    break
                if (request.failed and not heedless) or self._state is not _State.OPEN:
                    self._places.give()
                    if limiter is not None:
                        limiter.undo(data_len_of(submission.entry))
                    break
                self._submit(request, submission)
            await self._host.wait(request)
        except self._host.cancelled as cancellation:
            # What was submitted completes first. Any other exception (the coroutine is closed by force, a signal's handler
            # raised) leaves at once: whatever is in flight stays in our table.
            await self._host.wait(request)
            if request.failed:
                cancellation.add_note(f"a command to {self._target} had failed meanwhile: {request.failure()}")
            raise
        request.raise_error()

    async def _carry_out_batch(self, request: Request, batch: Batch) -> None:
        def stop() -> None:
            self._host.kick()
            self.queue.stop_batch(batch)

        request.pending = 1
        request.stop = stop
        self._next_user_data += batch.n
        self._host.kick()
        self._batches[batch] = request
        try:
            self.queue.stage_batch(batch)
            await self._host.wait(request)
        except BaseException:
            # Closed by force, or a signal's handler raised: no more of it is submitted, and our table keeps it until it ends.
            if request.pending:
                stop()
            raise
        request.raise_error()

    async def _pass(self, limiter: Limiter, len_bytes: int) -> bool:
        """Pass the limiter, then take a place in the queue; False, with neither, where we close meanwhile."""
        if not limiter.take_nowait(len_bytes):
            waiter = Request()
            self._in_lines.add(waiter)
            try:
                if not await limiter.take(self._host, waiter, len_bytes):
                    return False
            finally:
                self._in_lines.discard(waiter)
        if not self._places.take_nowait():
            try:
                await self._places.take()
            except BaseException:
                limiter.undo(len_bytes)
                raise
        return True

    def bind(self, limiter: Limiter) -> None:
        """Have a limiter belong to our loop. Raises WrongLoopError where it belongs to another already."""
        self.check_usable()
        limiter.bind(self._host)

    def check_usable(self) -> None:
        """Raise unless the caller may use the queue: ClosedError, or WrongLoopError on another thread or loop."""
        if self._state is not _State.OPEN:
            raise ClosedError(f"{self._target} is {self._state.value}: open it again")
        self._check_here()

    def check_closable(self) -> None:
        """Raise WrongLoopError on another thread or loop than the one that opened the queue, unless it needs no closing."""
        if self._state not in (_State.CLOSED, _State.FORKED):
            self._check_here()

    def _check_here(self) -> None:
        if not self._host.here():
            raise WrongLoopError(
                f"{self._target} belongs to the thread and event loop that opened it: open it once for each"
            )

    @property
    def in_flight(self) -> int:
        """Commands submitted and not completed, a batch counting as one."""
        return len(self._in_flight) + len(self._batches)

    @property
    def submitted(self) -> int:
        """Commands submitted since the queue was opened."""
        return self._next_user_data

    async def aclose(self) -> None:
        """Refuse new commands, wait for those in flight, and close the queue.

        Raises OSError (ETIMEDOUT) where some did not complete within :data:`DRAIN_LIMIT_S`, or twice their own time-out if that
        is longer; whoever waits for one gets the same. WrongLoopError on another loop, with nothing changed.
        """
        if self._state in (_State.CLOSED, _State.FORKED):
            return
        self._check_here()
        if self._state is not _State.CLOSING:
            self._state = _State.CLOSING
            self._drain_deadline = time.monotonic() + self._drain_limit()
            self._dismiss()
            for batch in self._batches:
                self.queue.stop_batch(batch)
        drained = Request()
        try:
            if self.in_flight:
                drained.pending = 1
                self._drains.append(drained)
                self._host.kick()
                await self._host.wait(drained)
        finally:
            if self._state is _State.CLOSING or self._state is _State.BROKEN:
                self._host.close()
                self._close_queue()
        drained.raise_error()

    def __del__(self) -> None:
        if getattr(self, "_host", None) is None or self._state in (_State.CLOSED, _State.FORKED):
            return
        warnings.warn(f"{self._target} was never closed", ResourceWarning, source=self, stacklevel=1)
        self._drain_without_loop()

    def _submit(self, request: Request, submission: Submission) -> None:
        # In this order because a signal's handler may raise anywhere in between: a turn is coming before there is anything to
        # wait for, and the table owns the buffers before the queue has the command.
        self._host.kick()
        user_data = self._next_user_data
        self._next_user_data = user_data + 1
        self._in_flight[user_data] = (request, len(request.outcomes), submission)
        request.outcomes.append((0, 0))
        request.pending += 1
        self.queue.stage(user_data, submission.entry, submission.buf_index)

    def _turn(self) -> float | None:
        """Submit, reap and wake; answers as :data:`hosts.Turn` does."""
        if self._state not in (_State.OPEN, _State.CLOSING):
            return None
        try:
            return self._advance()
        except OSError as error:
            self._break(error)
            return None
        except BaseException as error:
            # A defect, ours or the kernel's (a completion that nobody asked for): loud, but with nobody left waiting.
            self._break(os_error(errno.EIO, f"the queue of {self._target} is in disorder: {error!r}"))
            raise

    def _advance(self) -> float | None:
        progress = False
        for user_data, res, result in self.queue.tick(REAP_BUDGET):
            progress = True
            request, index, _ = self._in_flight.pop(user_data)
            request.outcomes[index] = (res, result)
            request.failed |= res != 0
            self._places.give()
            if request.limiter is not None:
                request.limiter.give()
            request.pending -= 1
            if not request.pending:
                self._host.wake(request)
        if self._batches:
            progress |= self._end_batches()
        if not self._in_flight and not self._batches:
            self._finish_drain()
            return None
        delay = 0.0 if progress else self.queue.pause()
        return self._limit(delay) if self._state is _State.CLOSING else delay

    def _end_batches(self) -> bool:
        ended = self.queue.ended_batches()
        for batch in ended:
            if (request := self._batches.pop(batch, None)) is not None:
                request.pending = 0
                self._host.wake(request)
        return bool(ended)

    def _limit(self, delay: float | None) -> float | None:
        """While draining, come back in time to give up."""
        left = self._drain_deadline - time.monotonic()
        if left <= 0:
            self._break(os_error(errno.ETIMEDOUT, f"closing {self._target} with {self.in_flight} commands in flight"))
            return None
        return left if delay is None else min(delay, left)

    def _drain_limit(self) -> float:
        singles = (timeout_ms_of(submission.entry) for _, _, submission in self._in_flight.values())
        batches = (int(batch.field(TIMEOUT_MS_OFFSET, 4).max()) for batch in self._batches)
        return max(DRAIN_LIMIT_S, max(chain(singles, batches), default=0) / 1000 * 2)

    def _break(self, error: OSError) -> None:
        """No completion will come any more: end every wait, and keep every buffer for good."""
        _abandoned.append((list(self._in_flight.values()), list(self._batches), self.queue))
        self._state = _State.BROKEN
        self._host.close()
        self._end_waits(error)
        self._finish_drain(error)

    def _end_waits(self, error: Exception) -> None:
        requests = [request for request, _, _ in self._in_flight.values()]
        batches = list(self._batches.values())
        self._in_flight.clear()
        self._batches.clear()
        self._dismiss()
        for request in dict.fromkeys(requests + batches):
            request.error = error
            request.pending = 0
            self._host.wake(request)
        for request in requests:
            self._places.give()
            if request.limiter is not None:
                request.limiter.give()

    def _dismiss(self) -> None:
        """Nothing is submitted any more: who waits in a limiter's line, perhaps for long, need not."""
        for waiter in self._in_lines:
            self._host.wake(waiter)

    def _finish_drain(self, error: OSError | None = None) -> None:
        for drained in self._drains:
            drained.error = error
            drained.pending = 0
            self._host.wake(drained)
        self._drains.clear()

    def _drain_without_loop(self) -> None:
        """Wait for commands in flight by blocking, wake nobody, and close the queue.

        On another thread than the queue's own nothing can be done but to keep it all: that thread may be inside the ring.
        """
        if threading.get_ident() != self._thread:
            _abandoned.append((self.queue, list(self._in_flight.values())))
            self._state = _State.CLOSED
            return
        deadline = time.monotonic() + ORPHAN_DRAIN_LIMIT_S
        try:
            for batch in self._batches:
                self.queue.stop_batch(batch)
            while self.in_flight and time.monotonic() < deadline:
                for user_data, _, _ in self.queue.tick(REAP_BUDGET):
                    del self._in_flight[user_data]
                for batch in self.queue.ended_batches():
                    del self._batches[batch]
                time.sleep(0.001)
        except (OSError, KeyError):
            pass  # a broken ring: nothing more can be reaped, so everything is kept
        self._close_queue()

    def _close_queue(self) -> None:
        if self.in_flight:
            _abandoned.append((list(self._in_flight.values()), list(self._batches), self.queue))
            self._in_flight.clear()
            self._batches.clear()
        self._state = _State.CLOSED
        _drivers.discard(self)
        self.queue.close()

    def _leave_behind(self) -> None:
        self._state = _State.FORKED
        self._end_waits(
            ClosedError(f"{self._target} is {self._state.value}: the parent's commands are not the child's")
        )


@atexit.register
def _drain_at_exit() -> None:
    """A process that ends with commands in flight leaves them to a kernel worker: wait for them instead."""
    for driver in list(_drivers):
        driver._drain_without_loop()


def _leave_behind_in_child() -> None:
    """The ring's memory is shared with the parent: a child that touched it would take the parent's completions."""
    for driver in list(_drivers):
        driver._leave_behind()
    _drivers.clear()


os.register_at_fork(after_in_child=_leave_behind_in_child)
