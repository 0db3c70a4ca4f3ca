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
    """Commands on their way over the path may fail, in whatever way the kernel has; all end, and later ones take the other."""
    async with aionvme.open(target, queue="interrupt") as ns:
        ends: list[str] = []

        async def read() -> None:
            for _ in range(20):
                try:
                    await ns.read(0, 8)
                    ends.append("read")
                except OSError as error:
                    ends.append(errno.errorcode[error.errno or 0])
                except aionvme.NvmeError as error:
                    ends.append(f"sct {error.sct}")

        for name in both_paths:
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(read)
                await anyio.sleep(0.02)
                Path("/sys/class/nvme", name, "reset_controller").write_text("1")
            await ns.read(0, 8)
        assert len(ends) == 2 * 8 * 20
        assert ends.count("read") > len(ends) // 2
        assert set(ends) <= {"read", "EINTR", "EIO", "EFAULT", "sct 3"}  # a path's status; EFAULT was seen of Linux 7.3


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
