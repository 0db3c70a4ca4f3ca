"""Commands, carried out on one queue for the tasks that await them: what they pass, and how they end.

How the queue lives on its event loop, and what memory commands own, is below this: ``turns.py``.
"""

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from aionvme.devices import Presence
from aionvme.driver.causes import command_error, note_failure, present
from aionvme.driver.fast import Flight
from aionvme.driver.limiter import Limiter
from aionvme.driver.permission import FULL_ACCESS, Access
from aionvme.driver.request import Group, Submission, Waiter
from aionvme.driver.state import RUNNING, State
from aionvme.driver.turns import Turns
from aionvme.errors import UsageError
from aionvme.latency import Latencies
from aionvme.nvme.command import Command, data_len_of, decode
from aionvme.nvme.status import Completion, Status
from aionvme.queues.base import Queue
from aionvme.queues.batch import Batch


class Driver(Turns):
    """One queue on one event loop."""

    def __init__(self, queue: Queue, target: str, presence: Presence = present, access: Access = FULL_ACCESS) -> None:
        """Take over ``queue`` and bind it to the running loop; ``target`` names the device, which ``presence`` asks for."""
        super().__init__(queue, target)
        self._presence = presence
        self._access = access
        self._recording = False

    async def run(
        self, submissions: Sequence[Submission], limiter: Limiter | None = None, group: Group | None = None
    ) -> list[Completion]:
        """Submit commands, as many at a time as there is room for, and wait for all of them.

        With a ``limiter`` (a ``group`` has its own), bound to this driver's loop, each passes that first. After one has failed,
        the rest stays: the answer is then shorter than the question, and its last failing completion says why. Raises OSError
        where the operating system, not the device, ended a command.
        """
        self.check_usable()
        await self._host.checkpoint_if_cancelled()
        group = group or Group(limiter)
        flights = await self._carry_out(group, submissions, heedless=False)
        for flight, submission in zip(flights, submissions, strict=False):
            if flight.res < 0:
                raise self.os_error(flight.res, decode(submission.entry)[0])
        if len(flights) < len(submissions) and not group.failed:
            self.check_usable()  # it closed while we waited for a place
        return [Completion(Status(flight.res), flight.value) for flight in flights]

    async def run_batch(self, batch: Batch, limiter: Limiter | None = None) -> None:
        """Submit a batch, as many at a time as there is room for, and wait for all of it: the outcomes are in the batch.

        A task that is cancelled submits no more of it, and goes on when what was submitted has completed. Raises ClosedError
        where the queue closes before all of it was submitted; the caller has looked whether it is usable at all.
        """
        await self._host.checkpoint_if_cancelled()
        if limiter is None and self.queue.batches:
            await self._carry_out_batch(batch)
        else:
            submissions = (Submission(batch.entry(i), batch.buf_index_of(i), batch) for i in range(batch.n))
            flights = await self._carry_out(Group(limiter), submissions, heedless=True)
            batch.stopped_at = len(flights)
            for i, flight in enumerate(flights):
                batch.completions[i] = (max(flight.res, 0), max(-flight.res, 0), flight.value, 0)
        if batch.stopped_at < batch.n:
            batch.completions["errno"][batch.stopped_at :] = errno.ECANCELED
            self.check_usable()
            await self._host.checkpoint_if_cancelled()  # on trio the wait does not raise

    def os_error(self, res: int, command: Command) -> OSError:
        """The error of a command that the operating system ended, with its likely cause."""
        return command_error(res, command, self._target, self._access, self._presence)

    async def _carry_out(self, group: Group, submissions: Iterable[Submission], *, heedless: bool) -> list[Flight]:
        """Submit one after the other until one has failed, or ``heedless`` all, and wait until they have completed."""
        limiter, flights = group.limiter, list[Flight]()
        try:
            for submission in submissions:
                if limiter is None:
                    if not self._places.take_nowait():
                        await self._places.take()
                elif not await self._pass(limiter, data_len_of(submission.entry)):
                    break
                if (group.failed and not heedless) or self._state is not State.OPEN:
                    self._places.give()
                    if limiter is not None:
                        limiter.undo(data_len_of(submission.entry))
                    break
                flight = self.flights.launch(*submission)
                group.launched(flight, submission.entry)
                flights.append(flight)
            for flight in flights:
                await flight
        except self._host.cancelled as cancellation:
            # What was submitted completes first. Any other exception (closed by force, a signal) leaves it to the table at once.
            for flight in flights:
                await self._host.wait_out(flight)
            if not hasattr(cancellation, "__notes__"):
                note_failure(cancellation, next((flight.res for flight in flights if flight.res), 0))
            raise
        return flights

    async def _carry_out_batch(self, batch: Batch) -> None:
        def stop() -> None:
            self._host.kick()
            self.queue.stop_batch(batch)

        ticket = self.flights.ticket()
        ticket.stop = stop
        self._batched += batch.n
        if not self.flights.turn_due:
            self._host.kick()
            self.flights.turn_due = True
        self._batches[batch] = ticket
        try:
            self.queue.stage_batch(batch)
            await ticket
            ticket.stop = None  # which has the batch, and with it the buffers
        except BaseException:
            # Closed by force, or a signal's handler raised: no more of it is submitted, and our table keeps it until it ends.
            if ticket.pending:
                stop()
            raise

    async def _pass(self, limiter: Limiter, len_bytes: int) -> bool:
        """Pass the limiter, then take a place in the queue; False, with neither, where we close meanwhile."""
        if not limiter.take_nowait(len_bytes):
            waiter = Waiter()
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

    @contextmanager
    def latencies(self) -> Iterator[Latencies]:
        """Record the latencies of commands that are submitted meanwhile. Raises UsageError where that is being done already."""
        self.check_usable()
        if self._recording:
            raise UsageError(f"latencies of {self._target} are being recorded already")
        self.queue.record(latencies := Latencies())
        self._recording = True
        try:
            yield latencies
        finally:
            self._recording = False
            if self._state in RUNNING:
                self.queue.record(None)
