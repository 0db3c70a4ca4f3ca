"""A command in flight owns its buffers until it completes, whatever happens to the task, the namespace or the process."""

import asyncio
import gc
import os
import random
import threading
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from tests.conftest import Place

pytestmark = pytest.mark.anyio

SIZE = 4096


@pytest.mark.feature("cancellation")
async def test_a_thousand_tasks_cancelled_at_random_points(place: Place) -> None:
    """Whoever is cancelled when, no buffer goes before its command ends, every one goes after, and the queue works on."""
    dice = random.Random(5)
    buffers: list[weakref.ref[Any]] = []

    async def work(ns: aionvme.Namespace, scope: anyio.CancelScope, i: int) -> None:
        with scope:
            while True:
                buffer = np.full(SIZE, i & 0xFF, np.uint8)
                buffers.append(weakref.ref(buffer))
                await ns.write(i % 512, buffer)
                await ns.read(i % 512, 1, into=buffer)
                del buffer

    async with place.open(place.nvm_4096, depth=32) as ns:
        async with anyio.create_task_group() as tasks:
            waiting = []
            for i in range(1000):
                waiting.append(scope := anyio.CancelScope())
                tasks.start_soon(work, ns, scope, i)
            dice.shuffle(waiting)
            while waiting:
                await anyio.sleep(dice.random() * 0.002)
                for _ in range(dice.randint(1, 100)):
                    if waiting:
                        waiting.pop().cancel()
        assert ns._io.in_flight == 0
        gc.collect()
        assert [ref for ref in buffers if ref() is not None] == []
        await ns.write(0, np.full(SIZE, 0x77, np.uint8))
        assert ((await ns.read(0, 1)) == 0x77).all()


@pytest.mark.feature("cancellation")
async def test_a_cancelled_task_goes_on_when_its_command_has_completed(place: Place) -> None:
    """Cancellation is put off: when the task is through, nothing of it is in flight and its buffer is released."""
    async with place.open(place.nvm_4096) as ns:
        for delay in (0, 0.00005, 0.0002, 0.001):
            buffer: np.ndarray | None = np.zeros(64 * SIZE, np.uint8)
            ref = weakref.ref(buffer)
            with anyio.move_on_after(delay):
                await ns.read(0, 64, into=buffer)
            assert ns._io.in_flight == 0
            buffer = None
            await (
                anyio.lowlevel.checkpoint()
            )  # the loop lets go of the CancelledError, whose traceback shows the buffer
            gc.collect()
            assert ref() is None


@pytest.mark.feature("cancellation")
async def test_the_last_reference_to_a_buffer_is_the_commands(place: Place) -> None:
    """A buffer that nobody else holds is kept by its command, arrives filled, and is then let go."""
    async with place.open(place.nvm_4096) as ns:
        await ns.write(100, np.full(SIZE, 0x42, np.uint8))
        seen: list[weakref.ref[Any]] = []

        async def read() -> None:
            got = await ns.read(100, 1)
            seen.append(weakref.ref(got))
            assert (got == 0x42).all()

        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(read)
        gc.collect()
        assert [ref for ref in seen if ref() is not None] == []


@pytest.mark.feature("registered buffers")
async def test_registered_buffers_come_and_go(place: Place) -> None:
    """Allocating and dropping thousands of registered buffers uses up neither the table nor the data: each reads right."""
    async with place.open(place.nvm_4096) as ns:
        await ns.write(0, np.repeat(np.arange(16, dtype=np.uint8), SIZE))
        for i in range(1500):
            buffer = ns.alloc(SIZE)
            if i % 50 == 0:
                await ns.read(i // 50 % 16, 1, into=buffer)
                assert (buffer == i // 50 % 16).all()
                ordinary = np.empty(SIZE, np.uint8)
                await ns.read(i // 50 % 16, 1, into=ordinary)
                assert (ordinary == buffer).all()
            del buffer
        assert len(ns._pool._starts) <= 2


@pytest.mark.feature("registered buffers")
async def test_a_registered_buffer_outlives_its_namespace(place: Place) -> None:
    """A buffer stays readable after the namespace it came from is closed."""
    async with place.open(place.nvm_4096) as ns:
        await ns.write(3, np.full(SIZE, 9, np.uint8))
        buffer = ns.alloc(SIZE)
        await ns.read(3, 1, into=buffer)
    assert (buffer == 9).all()


async def test_an_exception_in_the_body_drains_first(place: Place) -> None:
    """Leaving by an exception waits for the commands in flight: their tasks get their results, the exception goes on."""
    done: list[int] = []

    async def read(ns: aionvme.Namespace, i: int) -> None:
        await ns.read(i, 1)
        done.append(i)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(KeyError, match="boom"):
            async with place.open(place.nvm_4096) as ns:
                for i in range(20):
                    tasks.start_soon(read, ns, i)
                while ns._io.submitted < 20:  # some may have completed before the last was submitted
                    await anyio.lowlevel.checkpoint()
                raise KeyError("boom")
        assert ns._io.in_flight == 0
    assert sorted(done) == list(range(20))


async def test_cancelling_the_body_drains_first(place: Place) -> None:
    """So does leaving by cancellation, with the cancelled tasks' own commands in flight."""
    with anyio.CancelScope() as scope:
        async with place.open(place.nvm_4096) as ns, anyio.create_task_group() as tasks:
            scope.deadline = anyio.current_time() + 0.002

            async def hammer() -> None:
                while True:
                    await ns.read(0, 8)

            for _ in range(40):
                tasks.start_soon(hammer)
    assert scope.cancelled_caught
    assert ns._io.in_flight == 0


async def test_tasks_that_wait_for_a_place_end_when_the_namespace_closes(place: Place) -> None:
    """Those in flight complete; those still waiting their turn get ClosedError; nobody hangs."""
    ended: list[str] = []

    async def read(ns: aionvme.Namespace) -> None:
        try:
            await ns.read(0, 1)
            ended.append("read")
        except aionvme.ClosedError:
            ended.append("closed")

    async with anyio.create_task_group() as tasks, place.open(place.nvm_4096, depth=4) as ns:
        for _ in range(50):
            tasks.start_soon(read, ns)
        while ns._io.submitted < 4:
            await anyio.lowlevel.checkpoint()
    assert len(ended) == 50
    assert ended.count("closed") > 0
    assert ended.count("read") >= 4


async def test_a_closed_namespace_refuses(place: Place) -> None:
    """After the context is left every call raises ClosedError, which is a UsageError."""
    async with place.open(place.nvm_4096) as ns:
        pass
    with pytest.raises(aionvme.ClosedError, match="closed: open it again"):
        await ns.read(0, 1)
    with pytest.raises(aionvme.UsageError):
        await ns.submit_admin(aionvme.Command(0x06, cdw10=1), into=bytearray(4096))
    with pytest.raises(aionvme.ClosedError):
        ns.alloc(SIZE)


async def test_another_thread_is_refused(place: Place) -> None:
    """From another thread, with or without an event loop of its own, every call raises WrongLoopError."""
    async with place.open(place.nvm_4096) as ns:
        errors: list[BaseException] = []

        def without_a_loop() -> None:
            try:
                ns.alloc(SIZE)
            except aionvme.WrongLoopError as error:
                errors.append(error)

        def with_a_loop() -> None:
            async def use() -> None:
                try:
                    await ns.read(0, 1)
                except aionvme.WrongLoopError as error:
                    errors.append(error)

            asyncio.run(use())

        for body in (without_a_loop, with_a_loop):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
        assert len(errors) == 2
        assert "thread and event loop" in str(errors[0])
        assert ns._io.in_flight == 0
        await ns.read(0, 1)


async def test_a_forked_child_is_refused_and_the_parent_goes_on(place: Place) -> None:
    """A child of fork() gets ClosedError, also with commands in flight; the parent's commands complete with their data."""
    async with place.open(place.nvm_4096) as ns:
        data = np.random.default_rng(1).integers(0, 256, 64 * SIZE, np.uint8)
        await ns.write(0, data)
        buffer = ns.alloc(64 * SIZE)

        async def read() -> None:
            await ns.read(0, 64, into=buffer)

        async with anyio.create_task_group() as tasks:
            before = ns._io.submitted
            tasks.start_soon(read)
            while ns._io.submitted == before:
                await anyio.lowlevel.checkpoint()
            child = os.fork()
            if child == 0:
                os._exit(_use_in_child(ns))
            buffer[0] = 0xFF  # the page is shared with the child, not copied away from under the transfer
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert np.array_equal(buffer, data)
        assert np.array_equal(await ns.read(0, 64), data)


def _use_in_child(ns: aionvme.Namespace) -> int:
    coroutine = ns.read(0, 1)
    try:
        coroutine.send(None)
    except aionvme.ClosedError as error:
        return 42 if "fork" in str(error) else 1
    except BaseException:
        return 2
    return 3
