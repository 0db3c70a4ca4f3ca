"""Rings with a thread of the kernel's that submits (IORING_SETUP_SQPOLL), ticked by hand: waking it, counting, closing."""

import errno
import math
import random
import time
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

import aionvme
from aionvme._core import lib
from aionvme.latency import Latencies
from aionvme.queues import ring
from aionvme.queues.batch import Batch, Column
from tests.native.rings import (
    IO_URING_SETUP,
    CompletionTuple,
    HeldQueue,
    NopQueue,
    NullQueue,
    drain,
    forbid,
    holdings,
    in_child,
    need_injected_results,
    outcome,
    readable,
    reap,
)

IO_URING_ENTER = 426
SETUP_SQPOLL = 1 << 1

Kind = Literal["interrupt", "polled"]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel does some time later."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("kind", ["interrupt", "polled"])
def test_completions(kind: Kind) -> None:
    """What the thread submits and completes comes back as from any ring."""
    need_injected_results()
    queue = NopQueue(kind, sqpoll=True)
    flags = lib.aionvme_ring_flags(queue._ring)
    assert flags & SETUP_SQPOLL
    assert not flags & lib.IORING_SETUP_DEFER_TASKRUN
    for user_data in (0, 1, (1 << 62) + 5, (1 << 63) - 1):
        queue.stage(user_data, outcome(0x4080, 1 << 63), -1)
        assert drain(queue, 1) == [(user_data, 0x4080, 1 << 63)]
        assert not queue.busy
    queue.close()


@pytest.mark.parametrize("kind", ["interrupt", "polled"])
def test_submitting_enters_the_kernel_no_more(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the thread is awake, thousands of commands pass without a system call of ours."""
    need_injected_results()

    def run() -> None:
        monkeypatch.setattr(ring, "SQ_IDLE_MS", 60_000)
        queue = NopQueue(kind, depth=64, sqpoll=True)
        queue.stage(0, outcome(), -1)
        drain(queue, 1)  # it sleeps until there is a first command
        forbid(IO_URING_ENTER, errno.EPERM)
        for _ in range(100):
            for i in range(64):
                queue.stage(i, outcome(i), -1)
            seen: list[CompletionTuple] = []
            while len(seen) < 64:
                seen += reap(queue)
            assert sorted(seen) == [(i, i, 0) for i in range(64)]

    in_child(run)


def test_a_sleeping_thread_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nothing was submitted, about as long as the thread stays awake or far longer: it notices what comes."""
    need_injected_results()
    monkeypatch.setattr(ring, "SQ_IDLE_MS", 1)
    queue, dice = NopQueue(sqpoll=True), random.Random(3)
    for i in range(300):
        time.sleep(dice.choice((0, 0.0005, 0.001, 0.002, 0.004, 0.01)) * dice.random() * 2)
        queue.stage(i, outcome(i), -1)
        assert drain(queue, 1) == [(i, i, 0)]
    queue.close()


@pytest.mark.parametrize("kind", ["interrupt", "polled"])
def test_more_commands_than_the_ring_has_entries(kind: Kind) -> None:
    """They go as there is room; each completes once, and is counted once."""
    need_injected_results()
    queue = NopQueue(kind, depth=8, sqpoll=True)
    seen, dice = [], random.Random(1)
    for i in range(2000):
        while queue.in_flight >= 8:
            seen += reap(queue)
        queue.stage(i, outcome(0, i), -1)
        if dice.random() < 0.3:
            seen += reap(queue)
    seen += drain(queue, 2000 - len(seen))
    assert sorted(seen) == [(i, 0, i) for i in range(2000)]
    assert lib.aionvme_ring_submitted(queue._ring) == 2000
    assert not queue.busy
    assert not lib.aionvme_ring_queued(queue._ring)
    queue.close()


def test_the_thread_wakes_the_eventfd() -> None:
    """A completion that comes while the loop sleeps makes the eventfd readable, each time."""
    queue = HeldQueue(sqpoll=True)
    for i in range(100):
        queue.stage(i, bytes(72), -1)
        assert reap(queue) == []
        while queue.pause(False) != math.inf:
            assert reap(queue) == []
        assert not readable(queue)
        queue.release(1)
        assert readable(queue, 10)
        assert drain(queue, 1) == [(i, 0, 0)]
    queue.close()


def test_batches_and_latencies() -> None:
    """An array of commands flows through beside single ones, no more in flight than the queue is deep; all are measured."""
    queue = NullQueue(depth=16, sqpoll=True)
    queue.record(latencies := Latencies())
    batch = Batch(5000, bytes(72), [Column(24, np.arange(5000, dtype=np.uint64))])
    queue.stage_batch(batch)
    singles, i = [], 0
    deadline = time.monotonic() + 20
    while queue.busy or i < 500:
        if i < 500 and queue.in_flight < 8:
            queue.stage(i % 16, bytes(72), -1)
            i += 1
        singles += reap(queue)
        queue.pause(True)
        queue.ended_batches()
        assert time.monotonic() < deadline
    assert len(singles) == 500
    assert (batch.completions["errno"] == 0).all()
    assert (batch.completions["latency_ns"] > 0).all()
    queue.record(None)
    assert latencies.n == 5500
    queue.close()


def test_closing_gives_everything_back() -> None:
    """Rings that worked and were closed leave no file and no mapping, and their threads end."""
    before = holdings()
    for kind in ("interrupt", "polled"):
        for _ in range(10):
            queue = NopQueue(kind, depth=64, sqpoll=True)
            queue.stage(1, outcome(), -1)
            drain(queue, 1)
            queue.close()
    eventually(lambda: holdings() == before)


def test_a_kernel_that_refuses() -> None:
    """Where no such ring is to be had, that is an OSError that says so."""

    def run() -> None:
        forbid(IO_URING_SETUP, errno.EPERM)
        with pytest.raises(OSError, match=r"kernel\.io_uring_disabled") as caught:
            NullQueue(sqpoll=True)
        assert caught.value.errno == errno.EPERM

    in_child(run)


@pytest.mark.anyio
async def test_not_for_emulated_namespaces() -> None:
    """Nothing of those goes through the kernel."""
    with pytest.raises(aionvme.UsageError, match="sqpoll=True: emu:nvm is served in this process"):
        async with aionvme.open("emu:nvm", sqpoll=True):
            pass
