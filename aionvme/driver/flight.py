"""Commands in flight, in pure Python: what each owns, who awaits it, and how its completion finds it.

``_native/flight.c`` is the same in C; :mod:`aionvme.driver.fast` says which is used. What is said here holds for both.

A flight is awaited once, by the task whose command it is. On asyncio it is a future of its own kind: ``Task`` asks of one
``_asyncio_future_blocking``, ``_loop``, ``add_done_callback``, ``cancel`` and ``result``. :meth:`InFlight.wake` runs the task
there and then; a future of asyncio's would have it run on a later pass, which costs as much as all the rest. On trio the host
parks it.
"""

from asyncio import CancelledError, Future
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack
from contextvars import Context
from typing import Any

from aionvme.driver.host import Host
from aionvme.driver.request import Group
from aionvme.queues.base import CQE, Entries, Queue

SLOT_BITS = 16
"""A user_data is the number of a submission, above the slot it has in the table: each is used once."""

SLOT_MASK = (1 << SLOT_BITS) - 1


class Flight:
    """One command, from its submission to its completion."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_host",
        "error",
        "group",
        "keep",
        "nlb",
        "pending",
        "res",
        "stop",
        "timeout_ms",
        "user_data",
        "value",
        "waiter",
    )

    def __init__(self, host: Host, user_data: int, keep: object) -> None:
        self._host = host
        self.user_data = user_data
        self.keep: object = keep
        """What must stay alive until the command has completed: dropped then, and at no other time."""
        self.pending = True
        self.res = 0
        """0, the NVMe status, or a negative errno."""
        self.value = 0
        """The 64-bit result."""
        self.error: Exception | None = None
        """Why it will never complete: the queue broke, or a fork left it behind."""
        self.group: Group | None = None
        """Who is told of the completion, besides the task."""
        self.timeout_ms = 0
        """The command's own time limit, 0 for the kernel's."""
        self.nlb = 0
        """How many blocks it moves, where a mover launched it: for messages."""
        self.waiter: Any = None
        """What the host wakes, where a task waits in another way than by this future."""
        self.stop: Callable[[], None] | None = None
        """Called where the task is cancelled: what has not been submitted yet need not be."""
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled: CancelledError | None = None
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator[Any, Any, int]:
        """Wait for the completion and give its res; raises only where there will be none. A cancellation is put off."""
        while self.pending:
            if self._host.parks:
                yield from self._host.wait(self).__await__()
                continue
            self._asyncio_future_blocking = True
            try:
                yield self
            except CancelledError as cancellation:
                yield from self._host.put_off(self, cancellation).__await__()
            except BaseException:
                self._callback = None  # left by force: there is no task to be run
                raise
        self.raise_error()
        return self.res

    def raise_error(self) -> None:
        """Raise the error, if there is one: each task an exception of its own, to which it adds its traceback."""
        if self.error is not None:
            raise type(self.error)(*self.error.args) from self.error

    @property
    def _loop(self) -> object:
        # Task asks for get_loop() first, and takes the attribute where there is no such method, which costs less.
        return self._host.loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        """Remember how the task is run. There is only one: a flight is awaited once."""
        self._callback, self._context = callback, context

    def cancel(self, msg: object = None) -> bool:
        """Have the task go on with a CancelledError, which it holds back until the command has completed."""
        if not self.pending or self._callback is None:
            return False
        self._cancelled = CancelledError() if msg is None else CancelledError(msg)  # anyio knows its own by the message
        self.run_later()
        return True

    def result(self) -> None:
        """What the task is told when it runs."""
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled

    def run_later(self) -> None:
        """Have the task run on a later pass."""
        callback, self._callback = self._callback, None
        if callback is not None:
            self._host.loop.call_soon(callback, self, context=self._context)
        elif self.waiter is not None:
            self._host.wake(self)

    def run(self, done: Future[None] | None) -> None:
        """Run the task now. It looks at the result of what it is run with, which of a future of its own kind costs no call.

        Raises KeyboardInterrupt and SystemExit where the task does.
        """
        callback, self._callback = self._callback, None
        if callback is not None and self._context is not None:
            self._context.run(callback, done)
        elif self.waiter is not None:
            self._host.wake(self)


class InFlight:
    """The commands in flight on one queue, each in a slot of its own.

    ``free`` is how many more may be launched, for :class:`~aionvme.driver.places.Places` to count.
    """

    def __init__(self, queue: Queue, host: Host) -> None:
        depth = queue.depth
        self.free = depth
        self.submitted = 0
        """Commands launched so far."""
        self.open = True
        """False once nothing may be launched any more."""
        self.turn_due = False
        """A turn is coming, so that nobody need ask for one."""
        self._queue = queue
        self._host = host
        self._slots: list[Flight | None] = [None] * depth
        self._vacant = list(range(depth - 1, -1, -1))
        self._landed: deque[Flight] = deque()
        self._done: Future[None] | None = None
        if not host.parks:
            self._done = host.loop.create_future()
            self._done.set_result(None)

    def __len__(self) -> int:
        return len(self._slots) - len(self._vacant)

    def admits(self) -> bool:
        """Whether the caller may take a place and launch a command at once."""
        return self.open and self.free > 0 and bool(self._vacant) and self._host.running() is self._host.loop

    def flights(self) -> list[Flight]:
        """Those in flight."""
        return [flight for flight in self._slots if flight is not None]

    def launch(self, entry: bytes, buf_index: int, keep: object) -> Flight:
        """Stage a command for which a place was taken.

        In this order because a signal's handler may raise anywhere in between: a turn is coming before there is anything to wait
        for, and the table owns the buffers before the queue has the command.
        """
        if not self.turn_due:
            self._host.kick()
            self.turn_due = True
        slot = self._vacant.pop()
        self.submitted += 1
        user_data = self.submitted << SLOT_BITS | slot
        flight = self._slots[slot] = Flight(self._host, user_data, keep)
        self._queue.stage(user_data, entry, buf_index)
        return flight

    def land(self, completions: Entries) -> int:
        """Take completions in and give how many they were; their tasks run with :meth:`wake`, their places are yet to be given
        back. Raises LookupError for one that nobody asked for."""
        n = 0
        for user_data, res, value in CQE.iter_unpack(completions):
            slot = user_data & SLOT_MASK
            flight = self._slots[slot]
            if flight is None or flight.user_data != user_data:
                raise LookupError(f"a completion that nobody asked for, user_data {user_data}")
            self._slots[slot] = None
            self._vacant.append(slot)
            flight.keep = None
            flight.res = res
            flight.value = value
            flight.pending = False
            self._landed.append(flight)
            if flight.group is not None:
                flight.group.landed(res)
            n += 1
        return n

    def ticket(self) -> Flight:
        """A flight without a command: what a task awaits for something else, until :meth:`settle`."""
        return Flight(self._host, 0, None)

    def settle(self, ticket: Flight) -> None:
        """Have the task that awaits a ticket run with the next :meth:`wake`."""
        ticket.pending = False
        self._landed.append(ticket)

    def wake(self) -> None:
        """Run the tasks whose commands have completed. What they raise (KeyboardInterrupt, SystemExit) goes through; the others
        run with the next call."""
        while self._landed:
            self._landed.popleft().run(self._done)

    def fail(self, error: Exception) -> None:
        """No completion comes any more: end every wait on a later pass. The caller keeps what the flights kept.

        What goes wrong with one is raised when all have been ended.
        """
        flights = self.flights()
        self._slots = [None] * len(self._slots)
        self._vacant = list(range(len(self._slots) - 1, -1, -1))
        with ExitStack() as all_of_them:
            for flight in flights:
                all_of_them.callback(self.fail_one, flight, error)

    def fail_one(self, flight: Flight, error: Exception) -> None:
        """The same for one, which may be a ticket."""
        flight.error = error
        flight.pending = False
        try:
            if flight.group is not None:
                flight.group.landed(0)
        finally:
            flight.run_later()
