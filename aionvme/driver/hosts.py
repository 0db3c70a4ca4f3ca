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

import sys
from asyncio import events
from collections.abc import Callable

from aionvme.driver.asyncio_host import AsyncioHost
from aionvme.driver.host import Host, Turn
from aionvme.driver.trio_host import TrioHost
from aionvme.errors import UsageError


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
