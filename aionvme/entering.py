"""Contexts that open a target when they are entered, and close it in the right order when they are left."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

from aionvme.devices import Presence
from aionvme.driver.driver import Driver
from aionvme.driver.permission import Access
from aionvme.errors import UsageError
from aionvme.queues.attach import Target
from aionvme.queues.base import Queue

Opened = TypeVar("Opened")


class Entering(AbstractAsyncContextManager[Opened], ABC):
    """One opening of a target: a context to be entered once, and left on the loop that entered it."""

    def __init__(self, target: Target, use: str) -> None:
        """``use`` tells those who do not enter it what to write."""
        self._named = target
        self._use = use
        self._entered = False
        self._drivers: list[Driver] = []
        self._undo = AsyncExitStack()

    @abstractmethod
    async def _enter(self) -> Opened:
        """Open the target. What must be undone is in ``_undo``, also where this raises."""

    if not TYPE_CHECKING:  # a type checker says this better, and would not if it saw these

        def __getattr__(self, name: str) -> None:
            raise AttributeError(f"no {name!r} before it is open: {self.__dict__.get('_use')}")

        def __await__(self) -> None:
            raise TypeError(self._use)

        def __enter__(self) -> None:
            raise TypeError(self._use)

        def __exit__(self, *exception: object) -> None:
            """Never reached; with it, ``with`` gets as far as the explanation above."""

    async def __aenter__(self) -> Opened:
        if self._entered:
            raise UsageError(f"{self._named!s} is entered once for each opening")
        self._entered = True
        try:
            return await self._enter()
        except BaseException:
            await self._undo.aclose()
            raise

    async def __aexit__(self, *exception: object) -> None:
        for driver in self._drivers:
            driver.check_closable()  # all or nothing: on another loop, nothing is closed
        await self._undo.aclose()

    def _drive(self, queue: Queue, name: str, presence: Presence, access: Access) -> Driver:
        driver = Driver(queue, name, presence, access)
        self._drivers.append(driver)
        self._undo.push_async_callback(driver.aclose)
        return driver
