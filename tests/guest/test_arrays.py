"""Arrays of commands on a device that takes its time: the core goes on with them by itself."""

import numpy as np
import pytest

from aionvme.queues.base import Entries
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("arrays of commands")]


@pytest.fixture
def anyio_backend() -> str:
    """What is counted is what the loop is not asked for."""
    return "asyncio"


async def test_completions_need_no_turn_of_the_loop(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several commands complete, and are replaced, in one turn, though few are in flight."""
    n = 2000
    async with place.open(place.nvm_512, depth=4) as ns:
        turns, tick = 0, ns._io.queue.tick

        def counted(budget: int) -> Entries:
            nonlocal turns
            turns += 1
            return tick(budget)

        monkeypatch.setattr(ns._io.queue, "tick", counted)
        done = await ns.read_many(np.arange(n) % 100, 1, ns.alloc(n * ns.lba_size))
        assert not done["status"].any()
        assert turns < n / 3
