"""RingQueue over real rings, ticked by hand: what completions mean, waking, registered memory, and failing."""

import errno
import math
import mmap
import os
import resource
import time
from typing import Literal

import pytest

from aionvme._core import lib
from aionvme.buffers import span_of
from aionvme.queues import ring
from aionvme.queues.ring import RingQueue
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

# res as Linux gives it: 0, an NVMe status without the phase bit (SC 7:0, SCT 10:8, CRD 12:11, M 13, DNR 14), or -errno.
COMPLETIONS = {
    "success": (0, 0),
    "a result of 64 bits": (0, 0xFEDC_BA98_7654_3210),
    "the largest result": (0, (1 << 64) - 1),
    "a status, do not retry": (0x4080, 0),
    "the same, may be retried": (0x0080, 0),
    "a zone status with a result": (0x41BC, 0x1234_5678_9ABC),
    "every bit of a status": (0x7FFF, 0),
    "interrupted": (-errno.EINTR, 0),
    "not permitted": (-errno.EACCES, 0),
    "the largest errno": (-4095, 0),
}


@pytest.mark.parametrize("deferred", [False, True], ids=["at-once", "deferred"])
@pytest.mark.parametrize("kind", ["interrupt", "polled"])
@pytest.mark.parametrize("wanted", COMPLETIONS.values(), ids=COMPLETIONS)
def test_completions(kind: Literal["interrupt", "polled"], wanted: tuple[int, int], deferred: bool) -> None:
    """res keeps its sign and all its bits, the result its 64, and user_data the 63 that batches leave, on either kind."""
    need_injected_results()
    queue = NopQueue(kind)
    queue.deferred = deferred
    for user_data in (0, 1, (1 << 62) + 5, (1 << 63) - 1):
        queue.stage(user_data, outcome(*wanted), -1)
        assert drain(queue, 1) == [(user_data, *wanted)]
    queue.close()


def test_a_command_on_dev_null() -> None:
    """A uring_cmd makes the round trip: res 0, no result, and its own user_data (Linux 6.1)."""
    queue = NullQueue()
    queue.stage((1 << 63) - 2, bytes(72), -1)
    ((user_data, res, result),) = drain(queue, 1)
    queue.close()
    if res == -errno.EOPNOTSUPP:
        pytest.skip("this kernel has no uring_cmd on /dev/null: Linux 6.1")
    assert (user_data, res, result) == ((1 << 63) - 2, 0, 0)


@pytest.mark.parametrize("deferred", [False, True], ids=["at-once", "deferred"])
def test_a_tick_gives_no_more_than_its_budget(deferred: bool) -> None:
    """Of 200 completions a tick gives at most the budget, and 64 whatever the budget; all come, each once."""
    need_injected_results()
    queue = NopQueue(depth=256)
    queue.deferred = deferred
    for budget, most in ((1, 1), (7, 7), (64, 64), (1000, 64)):
        for i in range(200):
            queue.stage(i, outcome(i), -1)
        got: list[CompletionTuple] = []
        while len(got) < 200:
            completions = reap(queue, budget)
            assert len(completions) <= most
            if not deferred:
                assert len(completions) == min(most, 200 - len(got))
            got += completions
        assert sorted(got) == [(i, i, 0) for i in range(200)]
        assert reap(queue, budget) == []
    queue.close()


def test_waking() -> None:
    """pause() is infinite where the file descriptor will tell, and 0.0 where something is there; a tick makes it unreadable."""
    queue = HeldQueue()
    queue.stage(1, bytes(72), -1)
    assert queue.pause(False) == 0.0, "staged and not submitted"
    assert reap(queue) == []
    assert queue.pause(False) == math.inf
    assert not readable(queue, 0.02)
    queue.release(1)
    assert readable(queue, 1)
    assert reap(queue) == [(1, 0, 0)]
    assert not readable(queue)

    queue.stage(2, bytes(72), -1)
    assert reap(queue) == []
    queue.release(1)
    assert not readable(queue, 0.02), "nobody is paused"
    assert queue.pause(False) == 0.0, "it has completed"
    assert reap(queue) == [(2, 0, 0)]
    queue.close()


def test_a_late_signal_wakes_once() -> None:
    """An eventfd that the kernel signals after its completion was reaped is unreadable again after one tick."""
    queue = HeldQueue()
    fd = queue.fileno()
    assert fd is not None
    for in_flight in (0, 1):
        for i in range(in_flight):
            queue.stage(i, bytes(72), -1)
            reap(queue)
        os.eventfd_write(fd, 1)
        assert readable(queue)
        assert reap(queue) == []
        if in_flight:
            assert queue.pause(False) == math.inf
            assert reap(queue) == []
        assert not readable(queue)
    queue.release(1)
    drain(queue, 1)
    queue.close()


def test_a_polled_queue_backs_off() -> None:
    """It has no file descriptor, asks to be ticked at once after progress, then ever more slowly, and never over 10 ms."""
    queue = NullQueue("polled")
    assert queue.fileno() is None
    queue.stage(0, bytes(72), -1)
    assert queue.pause(False) == 0.0
    drain(queue, 1)  # an error where the kernel has no polled uring_cmd on /dev/null, but progress
    assert queue.pause(False) == 0.0
    pauses = []
    for _ in range(6):
        time.sleep(0.02)
        pauses.append(queue.pause(False) or 0.0)
    queue.close()
    assert pauses == sorted(pauses)
    assert 0.002 < pauses[0] <= pauses[-1] <= 0.01


def test_registering_up_to_the_end_of_the_table() -> None:
    """Each piece of memory gets an index of its own; when the table is full, None; what is given back can be had again."""
    queue = NullQueue()
    memory = mmap.mmap(-1, 4096 * 4)
    addr = span_of(memory, writable=True).addr
    indices = [queue.register(addr + 4096 * (i % 4), 4096) for i in range(ring.REGISTERED_BUFFERS)]
    assert sorted(index for index in indices if index is not None) == list(range(ring.REGISTERED_BUFFERS))
    assert queue.register(addr, 4096) is None
    queue.unregister(77)
    queue.unregister(1000)
    assert {queue.register(addr, 4096), queue.register(addr, 4096)} == {77, 1000}
    assert queue.register(addr, 4096) is None
    queue.close()


def test_registering_what_cannot_be() -> None:
    """Memory that is not there gives None, uses up no index, and does not stand in the way of the next."""
    queue = NullQueue()
    memory = mmap.mmap(-1, 4096)
    first = queue.register(span_of(memory, writable=True).addr, 4096)
    assert first is not None
    assert queue.register(0x1000, 4096) is None
    assert queue.register(span_of(memory, writable=True).addr, (1 << 30) + 4096) is None
    free = [queue.register(span_of(memory, writable=True).addr, 4096) for _ in range(ring.REGISTERED_BUFFERS - 1)]
    assert None not in free
    queue.close()


def test_registering_within_rlimit_memlock() -> None:
    """A user without CAP_IPC_LOCK registers what RLIMIT_MEMLOCK allows, then gets None, and smaller pieces still go."""

    def as_nobody() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (256 << 10, 256 << 10))
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        queue = NullQueue()
        memory = mmap.mmap(-1, 1 << 20)
        addr = span_of(memory, writable=True).addr
        assert queue.register(addr, 1 << 20) is None
        assert queue.register(addr, 128 << 10) is not None
        assert queue.register(addr + (128 << 10), 192 << 10) is None
        queue.stage(3, bytes(72), -1)
        assert drain(queue, 1)[0][0] == 3
        queue.close()

    in_child(as_nobody)


@pytest.mark.parametrize(
    ("number", "kind", "cause"),
    [
        (errno.EPERM, PermissionError, "kernel.io_uring_disabled, or a seccomp filter"),
        (errno.ENOSYS, OSError, "built without io_uring, or a seccomp filter"),
        (errno.EACCES, PermissionError, "a security module"),
        (errno.ENOMEM, OSError, "RLIMIT_MEMLOCK"),
        (errno.EMFILE, OSError, "RLIMIT_NOFILE"),
        (errno.EINVAL, OSError, "older than 5.19"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_no_ring_to_be_had(number: int, kind: type[OSError], cause: str) -> None:
    """Where setting up a ring fails, the OSError names what was being done and the likely cause, and nothing is left open."""

    def confined() -> None:
        forbid(IO_URING_SETUP, number)
        before = holdings()
        for attempt in (NullQueue, RingQueue.polling_supported):
            with pytest.raises(kind, match=f"setting up an io_uring: .*{cause}") as caught:
                attempt()
            assert caught.value.errno == number
        assert holdings() == before

    in_child(confined)


def test_entering_fails() -> None:
    """Where entering the ring fails, tick raises OSError with the kernel's errno; the queue can still be closed."""

    def confined() -> None:
        before = holdings()
        queue = NullQueue()
        forbid(IO_URING_ENTER, errno.ENXIO)
        queue.stage(1, bytes(72), -1)
        with pytest.raises(OSError, match="entering an io_uring") as caught:
            queue.tick(64)
        assert caught.value.errno == errno.ENXIO
        queue.close()
        assert holdings() == before

    in_child(confined)


def test_nothing_is_left_open() -> None:
    """Closing a queue gives back every file and mapping, with memory registered too; a second close does nothing."""
    memory = mmap.mmap(-1, 1 << 16)
    before = holdings()
    for kind in ("interrupt", "polled") * 20:
        queue = NullQueue(kind, depth=64)
        assert queue.register(span_of(memory, writable=True).addr, 1 << 16) == 0
        queue.close()
        assert holdings() == before
        queue.close()
    assert RingQueue.polling_supported()
    assert holdings() == before


def test_a_closed_queue_touches_nothing() -> None:
    """Memory can outlive its queue: giving it back then does nothing, registering gives None, and ticking raises."""
    queue = NullQueue()
    memory = mmap.mmap(-1, 4096)
    addr = span_of(memory, writable=True).addr
    index = queue.register(addr, 4096)
    assert index is not None
    queue.close()
    queue.unregister(index)
    assert queue.register(addr, 4096) is None
    with pytest.raises(TypeError):
        queue.tick(64)


def test_a_failing_constructor_releases_the_ring() -> None:
    """A file that cannot be registered, and files running out half-way, leave no ring behind."""
    before = holdings()
    for _ in range(10):
        with pytest.raises(OSError, match="registering the device with its ring") as caught:
            RingQueue(1 << 20, lib.NVME_URING_CMD_IO, kind="interrupt", depth=8)
        assert caught.value.errno == errno.EBADF
    assert holdings() == before

    def without_files() -> None:
        before = holdings()
        null = os.open("/dev/null", os.O_RDWR)
        free = os.open("/dev/null", os.O_RDWR)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))  # for the ring, but not for its eventfd
        with pytest.raises(OSError, match="registering an eventfd") as caught:
            RingQueue(null, 1, kind="interrupt", depth=8)
        assert caught.value.errno == errno.EMFILE
        os.close(null)
        assert holdings() == before

    in_child(without_files)
