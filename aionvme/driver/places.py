"""The places in a queue, first come, first served.

A semaphore of our own, for two reasons: a place that was handed to a waiter who leaves by any exception, a closed coroutine
included, must go to the next; and with a place free, taking it is a comparison and a subtraction.
"""

from collections import OrderedDict

from aionvme.driver.fast import InFlight
from aionvme.driver.host import Host
from aionvme.driver.request import Waiter


class Places:
    """As many places as commands may be in flight; the table counts the free ones. While one is free nobody is in line."""

    def __init__(self, host: Host, flights: InFlight) -> None:
        self._host = host
        self._flights = flights
        # In order of arrival; a waiter that leaves is taken out of the middle.
        self._queue: OrderedDict[Waiter, None] = OrderedDict()

    def take_nowait(self) -> bool:
        """Take a place if one is free."""
        if self._flights.free <= 0:
            return False
        self._flights.free -= 1
        return True

    async def take(self) -> None:
        """Wait in line for a place. This wait can be cancelled: nothing has been submitted yet."""
        waiter = Waiter()
        self._queue[waiter] = None
        try:
            await self._host.wait_or_leave(waiter)
        except BaseException:
            if waiter in self._queue:
                del self._queue[waiter]
            else:
                self.give()  # it had been handed a place already
            raise

    def give(self, n: int = 1) -> None:
        """Give places back: the first in line get them."""
        while n and self._queue:
            waiter, _ = self._queue.popitem(last=False)
            self._host.wake(waiter)
            n -= 1
        self._flights.free += n
