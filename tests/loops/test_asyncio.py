"""Cancellation as asyncio does it: by throwing, as often as anybody likes."""

import asyncio
import gc
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """asyncio's own ways, on both of its loops."""
    return request.param


@pytest.fixture
async def slow() -> AsyncIterator[aionvme.Namespace]:
    """A namespace whose commands take 250 ms."""
    async with aionvme.open("emu:nvm?lba=4096&latency=250ms") as ns:
        yield ns


async def test_cancelling_a_task_again_and_again(slow: aionvme.Namespace) -> None:
    """However often cancel() is called, the task ends with CancelledError, and not before its command has completed."""
    buffer = np.full(4096, 0xEE, np.uint8)
    task = asyncio.create_task(slow.read(0, 1, into=buffer))
    while not slow._io.submitted:
        await asyncio.sleep(0)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
        assert slow._io.in_flight == 1
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow._io.in_flight == 0
    assert not buffer.any()  # the transfer was carried out: the namespace holds zeroes


async def test_a_timeout_raises_when_the_command_has_completed(slow: aionvme.Namespace) -> None:
    """asyncio.timeout() turns the cancellation into TimeoutError, late but properly."""
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await slow.read(0, 1)
    assert time.monotonic() - start >= 0.25
    assert slow._io.in_flight == 0


async def test_a_task_group_waits_for_the_commands_of_those_it_cancels(slow: aionvme.Namespace) -> None:
    """When one task of a TaskGroup fails, the others end after their commands, and the group raises that failure."""
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(slow.read(0, 1))
            await asyncio.sleep(0.01)
            raise KeyError("boom")
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert slow._io.in_flight == 0


@pytest.mark.parametrize("how", ["cancel", "anyio scope"])
async def test_waiting_for_a_cancelled_command_costs_no_processor(slow: aionvme.Namespace, how: str) -> None:
    """The wait that remains is a wait, not a loop of throwing and catching: well under 100 ms of CPU for 100 ms."""
    start = time.process_time()
    if how == "cancel":
        task = asyncio.create_task(slow.read(0, 1))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
    else:
        with anyio.move_on_after(0.005):
            await slow.read(0, 1)
    assert time.process_time() - start < 0.05


async def test_a_coroutine_that_is_closed_leaves_its_buffer_to_the_command(slow: aionvme.Namespace) -> None:
    """Closing the coroutine cannot wait; the buffer stays the command's all the same, until it completes."""
    buffer = np.zeros(4096, np.uint8)
    ref = weakref.ref(buffer)
    coroutine = slow.read(0, 1, into=buffer)
    coroutine.send(None)
    coroutine.close()
    del buffer
    assert ref() is not None
    assert slow._io.in_flight == 1
    await slow.read(1, 1)
    await asyncio.sleep(0.05)
    assert slow._io.in_flight == 0
    assert ref() is None


async def test_a_scope_that_is_cancelled_already(slow: aionvme.Namespace) -> None:
    """asyncio throws when a task waits, which is after its command was submitted: the write is carried out, then cancelled."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await slow.write(5, bytes([0xA5]) * 4096)
    assert scope.cancelled_caught
    assert slow._io.in_flight == 0
    assert set((await slow.read(5, 1)).tolist()) == {0xA5}


async def test_a_cancelled_split_write_submits_no_more(slow: aionvme.Namespace) -> None:
    """A long write that is cancelled while it waits for room completes what it submitted and submits no other part."""
    async with aionvme.open("emu:nvm?lba=4096&size=256MiB&latency=20ms", depth=4) as ns:
        parts = 16
        with anyio.move_on_after(0.005):
            await ns.write(0, np.zeros(parts * ns.max_transfer_bytes, np.uint8))
        assert ns._io.in_flight == 0
        assert ns._io.submitted == 4
        assert (await ns.read(0, 1)).size == 4096


def left_open(buffer: np.ndarray) -> Any:
    """A namespace whose loop has been closed with a command in flight that fills ``buffer``."""

    async def leave() -> Any:
        context = aionvme.open("emu:nvm?lba=4096&latency=50ms")
        ns = await context.__aenter__()
        coroutine = ns.read(0, 1, into=buffer)
        coroutine.send(None)
        coroutine.close()
        return context

    loop = asyncio.new_event_loop()
    context = loop.run_until_complete(leave())
    loop.close()
    return context


def test_a_namespace_that_is_never_closed_is_drained_and_warned_of() -> None:
    """Where a loop ends with a namespace open, its commands are waited for when it is collected, with a ResourceWarning."""
    buffer = np.full(4096, 0xEE, np.uint8)
    context = left_open(buffer)
    with pytest.warns(ResourceWarning, match="never closed"):
        del context
        gc.collect()
    assert not buffer.any()


def test_a_program_that_makes_errors_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, too, commands in flight are waited for."""
    errors: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: errors.append(unraisable.exc_type))
    buffer = np.full(4096, 0xEE, np.uint8)
    context = left_open(buffer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del context
        gc.collect()
    assert set(errors) == {ResourceWarning}
    assert not buffer.any()


def test_a_limiter_whose_loop_is_over() -> None:
    """Commands in flight are waited for also where others wait for the limiter that theirs have passed."""
    limiter = aionvme.Limiter(depth=2, commands_per_s=20)
    buffers = [np.full(512, 0xEE, np.uint8) for _ in range(4)]

    async def leave() -> tuple[aionvme.Namespace, list[Any]]:
        ns = await aionvme.open("emu:nvm?latency=100ms").__aenter__()
        tasks = [asyncio.ensure_future(ns.limited(limiter).read(0, 1, into=buffer)) for buffer in buffers]
        while ns._io.submitted < 2:
            await asyncio.sleep(0.001)
        return ns, tasks

    loop = asyncio.new_event_loop()
    ns, tasks = loop.run_until_complete(leave())
    loop.close()
    for driver in (ns._io, ns._admin):
        driver.drain_without_loop()
    assert ns._io.in_flight == 0
    assert [bool(buffer.any()) for buffer in buffers] == [False, False, True, True]
    assert not any(task.done() for task in tasks)
