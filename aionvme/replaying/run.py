"""Carrying a trace out again: as many tasks as the queue is deep send what may go, one more says what that is."""

import math
import time
from collections import deque
from typing import NamedTuple, cast

import anyio
import numpy as np

from aionvme.buffers import NOTHING, span_of
from aionvme.driver.fast import Flight
from aionvme.driver.limiter import Limiter
from aionvme.driver.request import Group
from aionvme.errors import AionvmeError, UsageError
from aionvme.namespace import Namespace
from aionvme.nvme.effects import only_reads
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction
from aionvme.nvme.transfer import Direction, direction
from aionvme.prepare import prepare_io
from aionvme.protecting import by_the_controller
from aionvme.queues.base import Queue
from aionvme.queues.tracing import Recorder, WatchedQueue
from aionvme.replaying.buffers import Buffers
from aionvme.replaying.commands import command_of
from aionvme.replaying.fit import check_fits
from aionvme.replaying.moved import Moved
from aionvme.replaying.order import Order
from aionvme.trace import TRACE, Trace, check_trace

AHEAD = 2
"""How many times the queue's depth may be admitted, those included that wait for others: so far may commands overtake."""

TIMER_S = 0.002
"""A loop's timers are a millisecond late or more: from so long before it, a command's time is awaited pass by pass."""

_READS = (NvmOpcode.READ, NvmOpcode.COMPARE, NvmOpcode.VERIFY)


async def replay(trace: Trace, ns: Namespace, *, speed: float | None = 1.0) -> Trace:
    """Carry out a trace's commands on ``ns``: at its own times, ``speed`` times as fast, or with None as fast as possible.

    Gives the new run as an array of :data:`aionvme.TRACE`, its rows those of ``trace`` one by one, so that the two can be
    compared; times count from the beginning of the replay. What fails is told there, and nothing is raised for it. At most as
    many commands are in flight as the queue is deep. A replay that is cancelled leaves nothing in flight.

    Order: a command waits, at any speed, for those that had completed before it was submitted and that touch the same zone (on a
    conventional namespace the same blocks), unless both only read; a flush, a zone report and a select_all touch everything.
    What overlapped is submitted in the trace's order, unless others use the queue meanwhile or a limiter is before it. So zones
    are reset, written and read as they were, from the state in which the replay finds them; to reset some before is up to the
    caller.

    Appends go to the same zones. Reads, compares and verifies of blocks that an append of the trace has written, and whose
    place is another now, go where they are now, if those are one piece; others stay where they were.

    Data is made up: each block that is written begins with the address that it had in the trace, 64 bits, little-endian, and
    goes on with noise, the same in all blocks. Dwords 2, 3, 14 and 15 are 0.

    Raises UsageError, with nothing sent, where the trace does not fit: other block or zone sizes, commands that succeeded beyond
    the namespace's end, or longer than it takes, or that carry data of a meaning (dataset management, copy, commands not known).
    OSError or ClosedError where the queue breaks or closes meanwhile.
    """
    rows = check_trace(trace)
    ns._io.check_usable()
    if speed is not None and not (isinstance(speed, int | float) and 0 < speed < math.inf):
        raise UsageError(
            f"speed={speed!r}: a number above 0, 1 for the trace's own times, or None for as fast as possible"
        )
    block_bytes = ns._geometry.block_bytes
    check_fits(rows, ns)
    if not all(map(only_reads, np.unique(rows["opcode"]).tolist())):
        ns.check_writable()
    if type(ns._io.queue) is WatchedQueue:
        raise UsageError(f"a trace is being replayed on {ns.target} already: its times would be the other's")
    by_time = np.argsort(rows["submit_ns"], kind="stable")
    replayed = np.zeros(len(rows), TRACE)
    replayed[by_time] = await _Replay(rows[by_time], ns, block_bytes, speed).run()
    return replayed


class _Row(NamedTuple):
    """A row of a trace in plain Python."""

    submit_ns: int
    complete_ns: int
    slba: int
    result: int
    zsze: int
    nsid: int
    nlb: int
    len_bytes: int
    block_bytes: int
    cdw12: int
    cdw13: int
    in_flight: int
    status: int
    errno: int
    opcode: int
    action: int
    select_all: bool


assert _Row._fields == TRACE.names


class _Recorded(Group):
    """One command, of which a recorder is told when it is launched."""

    __slots__ = ("_recorder", "row")

    def __init__(self, limiter: Limiter | None, recorder: Recorder) -> None:
        super().__init__(limiter)
        self._recorder = recorder
        self.row = -1

    def launched(self, flight: Flight, entry: bytes) -> None:
        """See :meth:`Group.launched`."""
        self.row = self._recorder.n
        self._recorder.staged(flight.user_data, entry)
        super().launched(flight, entry)


class _Replay:
    """One replay of a trace, which is in the order of submission."""

    def __init__(self, trace: Trace, ns: Namespace, block_bytes: int, speed: float | None) -> None:
        self._trace = trace
        self._ns = ns
        self._block_bytes = block_bytes
        self._speed = speed
        self._row_of = np.zeros(len(trace), np.int64)
        self._order = Order(trace)
        self._zsze = ns.zsze if ns.zoned else 0
        self._moved = Moved(self._zsze)
        self._buffers = Buffers(trace, ns, block_bytes)
        self._ready: deque[int] = deque()
        self._idle: list[anyio.Event] = []
        self._woken = 0
        self._room = anyio.Event()
        self._left = len(trace)
        self._error: Exception | None = None
        self._recorder = Recorder()

    async def run(self) -> Trace:
        """Carry it out."""
        io = self._ns._io
        inner = io.queue
        io.queue = cast(Queue, WatchedQueue(inner, self._recorder))
        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(inner.depth, self._left)):
                    group.start_soon(self._work, group.cancel_scope)
                await self._admit()
        finally:
            io.queue = inner
            self._ns._forget()
        if self._error is not None:
            raise self._error
        return self._recorder.trace(self._block_bytes, self._zsze)[self._row_of]

    async def _admit(self) -> None:
        """Admit one command after the other when its time has come."""
        submit_ns = self._trace["submit_ns"]
        for number in range(len(self._trace)):
            if self._speed is not None:
                await _wait_until(self._recorder.start_ns + int(submit_ns[number] - submit_ns[0]) / self._speed)
            if len(self._order) >= AHEAD * self._ns.queue.depth:
                self._room = anyio.Event()
                await self._room.wait()
            if self._order.admit(number):
                self._start([number])

    async def _work(self, scope: anyio.CancelScope) -> None:
        """Send what may go, until all has completed."""
        try:
            while self._left:
                if not self._ready:
                    self._idle.append(more := anyio.Event())
                    await more.wait()
                    self._woken -= 1
                    continue
                number = self._ready.popleft()
                await self._send(number)
                self._left -= 1
                self._start(self._order.done(number), takes=1)
                if len(self._order) <= AHEAD * self._ns.queue.depth // 2:
                    self._room.set()
        except (AionvmeError, OSError) as error:
            self._error = self._error or error
            scope.cancel()

    def _start(self, numbers: list[int], takes: int = 0) -> None:
        """Have commands sent, of which the caller ``takes`` some; with none left, have all tasks end."""
        self._ready += numbers
        wanted = len(self._ready) - self._woken - takes if self._left else len(self._idle)
        for _ in range(min(wanted, len(self._idle))):
            self._idle.pop().set()
            self._woken += 1

    async def _send(self, number: int) -> None:
        row = _Row._make(self._trace[number].item())
        slba = self._moved.find(row.slba, row.nlb) if row.opcode in _READS else row.slba
        appended = row.opcode == NvmOpcode.ZONE_APPEND and not (row.status or row.errno)
        way = direction(row.opcode) if row.len_bytes else Direction.NONE
        span, buffer = NOTHING, None
        if way:
            buffer = self._buffers.take(way)
            span = span_of(buffer[: row.len_bytes], writable=way is Direction.CONTROLLER_TO_HOST)
            if way is Direction.HOST_TO_CONTROLLER:
                self._buffers.stamp(buffer, row.result if appended else row.slba, row.nlb)
        command = by_the_controller(command_of(row.opcode, slba, row.cdw12, row.cdw13), self._ns._geometry)
        group = _Recorded(self._ns._limiter, self._recorder)
        try:
            await self._ns._io.run([prepare_io(command, span, self._ns._geometry, self._ns._pool)], group=group)
        except OSError:
            if self._recorder.completion(group.row) is None:
                raise  # the queue broke; a command that the operating system ended has its errno in the new trace
        if buffer is not None:
            self._buffers.give(way, buffer)
        self._row_of[number] = group.row
        ended = self._recorder.completion(group.row)
        assert ended is not None
        res, result = ended
        if res == 0 and appended:
            self._moved.landed(row.result, result, row.nlb)
        elif res == 0 and row.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND and row.action == ZoneSendAction.RESET:
            self._moved.reset(row.slba, select_all=row.select_all)


async def _wait_until(due_ns: float) -> None:
    while (left_s := (due_ns - time.monotonic_ns()) / 1e9) > 0:  # noqa: ASYNC110  # no event has this time
        await anyio.sleep(left_s - TIMER_S if left_s > TIMER_S else 0)
