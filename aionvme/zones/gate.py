"""Who may do something with a zone now: many tasks together, or one alone; first come, first served."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Gate:
    """Appends go through it together; whatever needs the write pointer to stand still, or changes the state, alone.

    A wait can be cancelled; who is inside stays as long as it likes, and does not enter again.
    """

    __slots__ = ("_alone", "_line", "_together")

    def __init__(self) -> None:
        self._together = 0
        self._alone = False
        self._line: deque[tuple[anyio.Event, bool]] = deque()

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._together + self._alone

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Inside of the context nobody else is."""
        await self.enter(alone=True)
        try:
            yield
        finally:
            self.leave(alone=True)

    async def enter(self, *, alone: bool = False) -> None:
        """Go in, after those who came before."""
        if not self._line and self._admits(alone):
            self._admit(alone)
            return
        turn = (anyio.Event(), alone)
        self._line.append(turn)
        try:
            await turn[0].wait()
        except BaseException:
            if turn[0].is_set():
                self.leave(alone=alone)
            else:
                self._line.remove(turn)
                self._call()
            raise

    def leave(self, *, alone: bool = False) -> None:
        """Go out."""
        if alone:
            self._alone = False
        else:
            self._together -= 1
        self._call()

    def _admits(self, alone: bool) -> bool:
        return not self._alone and not (alone and self._together)

    def _admit(self, alone: bool) -> None:
        if alone:
            self._alone = True
        else:
            self._together += 1

    def _call(self) -> None:
        while self._line and self._admits(self._line[0][1]):
            event, alone = self._line.popleft()
            self._admit(alone)
            event.set()
