"""A namespace with two paths: commands go through its head, which has one node for both, and outlive one of them."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.devices import find
from aionvme.nvme.admin import identify
from aionvme.nvme.identify import Cns
from aionvme.queues.attach import QueueChoice
from tests.conftest import node
from tests.guest.faults import Ends, all_in_flight, being_reset, switch_off, write_sysfs
from tests.guest.monitor import slowed
from tests.guest.traps import bind, pci_address, unbind, until

pytestmark = [pytest.mark.anyio, pytest.mark.feature("multipath")]


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What paths do is no matter of the loop."""
    return request.param


@pytest.fixture
def target() -> str:
    """The namespace with two paths."""
    return node(1, "nvme4")


@pytest.fixture
def both_paths(target: str) -> Iterator[list[str]]:
    """The controllers that lead there, both live, before and after."""
    live = [path.name for path in find(Path(target)).paths if path.state == "live"]
    assert len(live) == 2
    yield live
    until(lambda: len([path for path in find(Path(target)).paths if path.state == "live"]) == 2)


@pytest.mark.parametrize("queue", ["interrupt", "polled"])
async def test_reads_and_writes(target: str, queue: QueueChoice) -> None:
    """Data and the controller's word arrive, split where they are longer than one command's."""
    data = np.random.default_rng(4).integers(0, 256, 1 << 20, np.uint8)
    async with aionvme.open(target, queue=queue) as ns:
        assert ns.queue.kind == queue
        await ns.write(16, data)
        assert (await ns.read(16, len(data) // ns.lba_size) == data).all()
        buffer = ns.alloc(4096)
        assert (await ns.read(16, 8, into=buffer) == data[:4096]).all()
        assert ns.controller.sn == "nvme4"


async def test_limits_are_those_of_the_paths(target: str) -> None:
    """The queue's places are counted where commands wait for them: in the paths, not in the head, which says 128 or nothing."""
    requests = {int(file.read_text()) for file in Path("/sys/class/block").glob("nvme*c*n1/queue/nr_requests")}
    async with aionvme.open(target, queue="interrupt", depth=2000) as ns:
        assert ns.queue.depth == min(requests) > 128


async def test_a_reset_of_one_path(target: str, both_paths: list[str]) -> None:
    """What a lost controller had in flight is given up when it is reset, in whatever way the kernel has; commands that come
    meanwhile take the other path. The kernel chooses the path: of the two controllers one had the commands."""
    async with aionvme.open(target, queue="interrupt") as ns:

        async def reset(folder: Path, over: anyio.Event) -> None:
            await write_sysfs(folder / "reset_controller", "1")
            over.set()

        given_up, data = 0, bytes(ns.lba_size)
        for name in both_paths:
            folder = Path("/sys/class/nvme", name)
            ends, meanwhile = Ends(), Ends()
            with slowed("nvme4n1", 12):
                async with anyio.create_task_group() as tasks:
                    before = ns._io.submitted
                    for i in range(12):
                        tasks.start_soon(ends.note, lambda i=i: ns.write(i, data))
                    await all_in_flight(ns, before + 12)
                    switch_off(folder)
                    tasks.start_soon(reset, folder, over := anyio.Event())
                    while not (being_reset(folder) or over.is_set()):
                        await anyio.sleep(0.001)
                    for i in range(4):
                        tasks.start_soon(meanwhile.note, lambda i=i: ns.write(12 + i, data))
            assert len(ends.all) == 12
            for end in ends.failed():
                if isinstance(end, OSError):
                    assert end.errno in (errno.EINTR, errno.EIO)
                else:
                    assert isinstance(end, aionvme.NvmeError)
                    assert end.sct == 3  # a path's status
            assert meanwhile.all == [None] * 4
            given_up += len(ends.failed())
        assert given_up
        await ns.read(0, 16)


async def test_one_path_taken_away(target: str, both_paths: list[str]) -> None:
    """A namespace that is open works on over the path that is left, all but its admin commands; it opens anew over that path."""
    gone = find(Path(target)).controller.name
    address = pci_address(Path("/sys/class/nvme", gone))
    (left,) = set(both_paths) - {gone}
    async with aionvme.open(target, queue="interrupt") as ns:
        await ns.write(0, np.full(4096, 7, np.uint8))
        unbind(address)
        try:
            assert (await ns.read(0, 8) == 7).all()
            with pytest.raises(OSError, match="controller"):
                await ns.submit_admin(identify(Cns.CONTROLLER), into=bytearray(4096))
            assert find(Path(target)).controller == Path("/dev", left)
            async with aionvme.open(target) as again:
                assert (await again.read(0, 8) == 7).all()
        finally:
            bind(address, "nvme4")
        assert (await ns.read(0, 8) == 7).all()
