"""The places in a queue, first come, first served.

A semaphore of our own, for two reasons: a place that was handed to a waiter who leaves by any exception, a closed coroutine
included, must go to the next; and with a place free, taking it is a comparison and a subtraction.
"""

from collections import OrderedDict

from aionvme.driver.hosts import Host
from aionvme.driver.request import Request


class Places:
    """As many places as commands may be in flight."""

    def __init__(self, host: Host, number: int) -> None:
        self._host = host
        self._free = number
        # In order of arrival; a waiter that leaves is taken out of the middle.
        self._queue: OrderedDict[Request, None] = OrderedDict()

    def take_nowait(self) -> bool:
        """Take a place if one is free; nobody waits then."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait in line for a place. This wait can be cancelled: nothing has been submitted yet."""
        waiter = Request()
        self._queue[waiter] = None
        try:
            await self._host.wait_or_leave(waiter)
        except BaseException:
            if waiter in self._queue:
                del self._queue[waiter]
            else:
                self.give()  # it had been handed a place already
            raise

    def give(self) -> None:
        """Give a place back: the first in line gets it."""
        if self._queue:
            waiter, _ = self._queue.popitem(last=False)
            self._host.wake(waiter)
        else:
            self._free += 1
