"""Arrays of commands, with which the core goes on by itself."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("arrays of commands")]

DEPTH = 4


@pytest.fixture
def anyio_backend() -> str:
    """What is counted is what the loop is not asked for."""
    return "asyncio"


async def test_completions_need_no_turn_of_the_loop(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """More commands complete in one call of the core's than are ever in flight, so that it has replaced others in it; and none of
    them is handed out one by one.

    How many they are is a matter of how soon the device answers: with one that takes its time it happens now and then.
    """
    n = 500
    async with place.open(place.nvm_512, depth=DEPTH) as ns:
        queue = ns._io.queue
        ring: Any = getattr(queue, "_better", queue)
        at_once: list[int] = []

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(argument: Any) -> Any:
                batches = [packed.batch for packed in ring._batches.values()]
                before = sum(batch.completed for batch in batches)
                outcome = call(argument)
                at_once.append(sum(batch.completed for batch in batches) - before)
                assert isinstance(outcome, float) or not len(outcome)
                return outcome

            return counting

        source = np.arange(n * ns.lba_size // 4, dtype=np.uint32)
        await ns.write(0, source)
        for name in ("tick", "pause"):
            monkeypatch.setattr(queue, name, counted(getattr(queue, name)))
        into = ns.alloc(n * ns.lba_size)
        deadline = time.monotonic() + 60
        while max(at_once, default=0) <= DEPTH and time.monotonic() < deadline:
            into[:] = 0
            done = await ns.read_many(np.arange(n), 1, into)
            assert not done["status"].any()
            assert (into.view(np.uint32) == source).all()
        assert max(at_once) > DEPTH
        assert sum(at_once) % n == 0
