"""Raw queues as far as a machine without them goes: that it is found out safely, and what the first proposal's are kept from.

What they do is tested where they are: in the virtual machine, by tests/raw and by the tests of the API.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aionvme import devices
from aionvme._core import lib
from aionvme.buffers import BufferPool, span_of
from aionvme.devices import GenericDevice
from aionvme.nvme.command import Command, DataPointers, encode
from aionvme.queues.raw import ProposedRawQueue, why_not_raw
from aionvme.queues.ring import RingQueue
from tests.native.rings import ring_fds

PAGE = 4096
DEVICE = GenericDevice(Path("/dev/ng7n1"), "ng7n1", Path("/dev/nvme7"))


@pytest.fixture
def null_fd() -> Iterator[int]:
    """/dev/null, open."""
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def test_the_probe_says_no_and_leaves_nothing_behind() -> None:
    """Mainline Linux answers the probe with a refusal; its ring is gone afterwards."""
    before = ring_fds()
    assert RingQueue.raw_supported() is False
    assert ring_fds() == before


def test_a_raw_ring_is_refused_by_mainline(null_fd: int) -> None:
    """Opened all the same, a raw ring fails by the kernel's errno with a cause, and no ring stays open."""
    before = ring_fds()
    with pytest.raises(OSError, match="raw queue") as caught:
        RingQueue(null_fd, 1, kind="raw", depth=4)
    assert caught.value.errno == errno.EINVAL
    assert ring_fds() == before


@pytest.mark.parametrize(
    ("parameter", "numbers", "supported", "reason"),
    [
        (None, None, False, "never reached mainline"),
        (0, None, True, "load it with nvme.raw_queues=1"),
        (2, "2 2", False, "io_uring cannot register a queue"),
        (2, "0 0", True, "/dev/nvme7 has no raw queues"),
        (2, None, True, "lose all but one"),
        (1, None, True, None),
        (2, "2 0", True, None),  # one may be given back at any moment: trying tells
        (2, "2 2", True, None),
    ],
)
def test_why_not_raw(
    parameter: int | None,
    numbers: str | None,
    supported: bool,
    reason: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every reason against a raw queue, from what sysfs and the probe say."""
    for path, text in (("module/nvme/parameters/raw_queues", parameter), ("class/nvme/nvme7/raw_queues", numbers)):
        if text is not None:
            (tmp_path / path).parent.mkdir(parents=True)
            (tmp_path / path).write_text(f"{text}\n")
    monkeypatch.setattr(devices, "SYSFS", tmp_path)
    monkeypatch.setattr(RingQueue, "raw_supported", staticmethod(lambda: supported))
    found = why_not_raw(DEVICE)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


@pytest.fixture
def proposed(null_fd: int) -> Iterator[ProposedRawQueue]:
    """The queue for the first proposal's kernel, with an ordinary polled ring where the raw one would be."""
    queue = ProposedRawQueue(RingQueue(null_fd, 1, kind="polled", depth=8), null_fd)
    yield queue
    queue.close()


@pytest.mark.parametrize(
    ("offset", "data_len", "registered", "metadata_len", "timeout_ms", "taken"),
    [
        (0, 512, True, 0, 0, True),
        (0, PAGE, True, 0, 0, True),
        (512, 512, True, 0, 0, False),  # an offset into the registered buffer is ignored there
        (0, PAGE + 512, True, 0, 0, False),  # more than a page goes to the block layer, or to the wrong page
        (0, 0, True, 0, 0, False),  # nothing to poll for
        (0, 512, False, 0, 0, False),  # only registered buffers
        (0, 512, True, 8, 0, False),  # metadata is dropped
        (0, 512, True, 0, 100, False),  # the time-out is ignored
    ],
)
def test_what_the_first_proposal_is_trusted_with(
    proposed: ProposedRawQueue,
    offset: int,
    data_len: int,
    registered: bool,
    metadata_len: int,
    timeout_ms: int,
    taken: bool,
) -> None:
    """Only a command with none of the things that such a kernel gets wrong takes the raw queue."""
    memory = mmap.mmap(-1, 2 * PAGE)
    base = span_of(memory, writable=True).addr
    index = proposed.register(base, PAGE)
    assert index is not None
    pointers = DataPointers(base + offset, data_len, base if metadata_len else 0, metadata_len)
    entry = encode(Command(opcode=2, timeout_ms=timeout_ms), 1, pointers)
    assert proposed.takes(entry, index if registered else -1) is taken
    proposed.unregister(index)


def test_the_first_proposal_gets_pages_one_by_one(proposed: ProposedRawQueue) -> None:
    """A buffer longer than a page cannot be registered in one piece; a pool with chunks of a page registers each of them."""
    memory = mmap.mmap(-1, 2 * PAGE)
    assert proposed.register(span_of(memory, writable=True).addr, 2 * PAGE) is None
    pool = BufferPool(proposed.register, proposed.unregister, PAGE)
    array = pool.alloc(3 * PAGE)
    indices = {pool.buf_index(*span_of(array[i : i + PAGE], writable=True)[:2]) for i in range(0, 3 * PAGE, PAGE)}
    assert len(indices) == 3
    assert -1 not in indices
    assert pool.buf_index(*span_of(array[: PAGE + 1], writable=True)[:2]) == -1


def test_the_first_proposal_is_not_closed_under_its_commands(null_fd: int) -> None:
    """That kernel frees the table of a ring's commands with the ring: with one in flight the ring stays."""
    before = ring_fds()
    ring = RingQueue(null_fd, 1, kind="polled", depth=8)
    raw_fd = ring_fds() - before
    queue = ProposedRawQueue(ring, null_fd)
    memory = mmap.mmap(-1, PAGE)
    index = queue.register(base := span_of(memory, writable=True).addr, PAGE)
    assert index is not None
    queue.stage(0, encode(Command(opcode=2), 1, DataPointers(base, 512)), index)
    queue.close()
    assert ring_fds() - before == raw_fd
    lib.aionvme_ring_close(ring._ring)
    assert ring_fds() == before
