"""Cancellation as trio does it: the waiting task is asked, and declines."""

import time

import pytest
import trio

import aionvme

SLOW = "emu:nvm?lba=4096&latency=50ms"


@pytest.mark.trio
async def test_a_cancelled_command_gives_its_outcome(nursery: trio.Nursery) -> None:
    """Cancelled in flight, a read still returns its data; the scope takes effect at the next checkpoint."""
    async with aionvme.open(SLOW) as ns:
        with trio.move_on_after(0.005) as scope:
            data = await ns.read(0, 1)
            assert scope.cancel_called
            await trio.lowlevel.checkpoint()
            raise AssertionError("the checkpoint after a cancellation does not return")
        assert scope.cancelled_caught
        assert data.size == 4096
        assert ns._io.in_flight == 0


@pytest.mark.trio
async def test_a_task_cancelled_before_submits_nothing() -> None:
    """In a scope that is cancelled already, a command is not begun."""
    async with aionvme.open(SLOW) as ns:
        before = ns._io.submitted
        with trio.CancelScope() as scope:
            scope.cancel()
            await ns.read(0, 1)
        assert scope.cancelled_caught
        assert ns._io.submitted == before


@pytest.mark.trio
async def test_a_failing_nursery_waits_for_commands_in_flight() -> None:
    """When a sibling fails, the nursery ends after the commands, with that failure."""
    async with aionvme.open(SLOW) as ns:
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                for i in range(10):
                    nursery.start_soon(ns.read, i, 1)
                await trio.sleep(0.005)
                raise KeyError("boom")
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        assert ns._io.in_flight == 0


@pytest.mark.trio
async def test_waiting_costs_no_processor() -> None:
    """A slow command in flight leaves the processor alone, cancelled or not."""
    async with aionvme.open("emu:nvm?latency=200ms") as ns:
        start = time.process_time()
        with trio.move_on_after(0.01):
            await ns.read(0, 1)
        assert time.process_time() - start < 0.05


def test_closing_before_the_first_turn() -> None:
    """A namespace is closed when the tasks that would look after it have been asked for and not begun: they do not begin."""

    async def main() -> None:
        async with aionvme.open("emu:nvm") as ns:
            ns._io._host.kick()
        await trio.sleep(0.01)

    trio.run(main)
