"""Several things at a time, and no more."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

Outcome = TypeVar("Outcome")


async def side_by_side(most: int, calls: Iterable[Callable[[], Awaitable[Outcome]]]) -> list[Outcome]:
    """Carry calls out, at most so many at a time, and give what they return in their order.

    All are carried out even where some fail; then the first error is raised.
    """
    waiting = list(calls)
    if len(waiting) == 1:
        return [await waiting[0]()]
    outcomes: dict[int, Outcome] = {}
    errors: list[Exception] = []
    left = iter(enumerate(waiting))

    async def work() -> None:
        for i, call in left:
            try:
                outcomes[i] = await call()
            except Exception as error:  # raised below, when the others have ended
                errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(most, len(waiting))):
            tasks.start_soon(work)
    if errors:
        raise errors[0]
    return [outcomes[i] for i in range(len(waiting))]
