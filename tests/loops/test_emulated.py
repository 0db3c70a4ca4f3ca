"""What only an emulated namespace can show: its file, its seed, many zones, and a device that does not answer."""

import errno
import os
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme.buffers import span_of
from aionvme.driver import process, turns
from aionvme.nvme.zoned import zone_append
from aionvme.prepare import prepare_io

pytestmark = pytest.mark.anyio


async def test_a_file_keeps_data_and_zones(tmp_path: Path) -> None:
    """What was written, and how far each zone is, is there again when the file is opened again."""
    spec = f"emu:zns?zones=8&zone_size=1MiB&file={tmp_path / 'zns.img'}"
    async with aionvme.open(spec) as ns:
        first = await ns.zone_append(0, np.full(4096, 1, np.uint8))
        second = await ns.zone_append(3 * ns.zsze, np.full(8192, 2, np.uint8))
        await ns.finish_zone(0)
        await ns.flush()
    async with aionvme.open(spec) as ns:
        zones = await ns.report_zones()
        assert zones["zs"].tolist() == [0xE, 1, 1, 4, 1, 1, 1, 1]  # full, and closed where one was open
        assert int(zones["wp"][3]) == 3 * ns.zsze + 2
        assert set((await ns.read(first, 1)).tolist()) == {1}
        assert set((await ns.read(second, 2)).tolist()) == {2}


async def test_a_file_is_open_once(tmp_path: Path) -> None:
    """A second opening of a file in use is refused, and of a file that is something else as well."""
    spec = f"emu:nvm?size=1MiB&file={tmp_path / 'nvm.img'}"
    async with aionvme.open(spec):
        with pytest.raises(aionvme.UsageError, match="in use"):
            async with aionvme.open(spec):
                pass
    other = tmp_path / "letter.txt"
    other.write_text("dear reader")
    with pytest.raises(aionvme.UsageError):
        async with aionvme.open(f"emu:nvm?size=1MiB&file={other}"):
            pass
    assert other.read_text() == "dear reader"


async def test_a_report_longer_than_one_command() -> None:
    """Thousands of zones are reported in pieces and come out as one array, in order."""
    nr_zones = 3000
    async with aionvme.open(f"emu:zns?zones={nr_zones}&zone_size=64KiB") as ns:
        await ns.zone_append(2999 * ns.zsze, bytes(4096))
        zones = await ns.report_zones()
        assert zones["zslba"].tolist() == list(range(0, nr_zones * ns.zsze, ns.zsze))
        assert zones["wp"][2999] == 2999 * ns.zsze + 1
        opened = await ns.report_zones(options=aionvme.ReportingOptions.IMPLICITLY_OPENED)
        assert opened["zslba"].tolist() == [2999 * ns.zsze]


async def test_the_seed_decides_the_order() -> None:
    """Appends submitted together land in another order than they came in; the same one each time the seed is the same."""

    async def landing(seed: int) -> list[int]:
        async with aionvme.open(f"emu:zns?seed={seed}") as ns:
            # Submitted in one piece: the order in which tasks start is the loop's, and trio's is random.
            data = bytes(4096)
            submissions = [
                prepare_io(zone_append(0, 1), span_of(data, writable=False), ns._geometry, ns._pool) for _ in range(32)
            ]
            return [completion.result for completion in await ns._io.run(submissions)]

    first = await landing(1)
    assert sorted(first) == list(range(32))
    assert first != sorted(first)
    assert await landing(1) == first
    assert await landing(2) != first


async def test_a_device_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing gives up after its limit: it raises ETIMEDOUT, and so does every task that was waiting; buffers are kept."""
    kept: list[object] = []
    monkeypatch.setattr(turns, "DRAIN_LIMIT_S", 0.2)
    monkeypatch.setattr(process, "abandoned", kept)
    caught: list[int | None] = []

    async def read(ns: aionvme.Namespace) -> None:
        try:
            await ns.read(0, 1)
        except OSError as error:
            caught.append(error.errno)

    async with anyio.create_task_group() as tasks:
        with pytest.raises(TimeoutError, match="2 commands in flight"):
            async with aionvme.open("emu:nvm?latency=0us") as ns:
                ns._io.queue._timing.latency_ns = (10**12, 10**12)  # type: ignore[attr-defined]
                tasks.start_soon(read, ns)
                tasks.start_soon(read, ns)
                while ns._io.in_flight < 2:
                    await anyio.lowlevel.checkpoint()
    assert caught == [errno.ETIMEDOUT] * 2
    assert len(kept) == 1


async def test_a_queue_in_disorder_ends_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """An OSError of the queue itself reaches every task, and the namespace can still be closed."""
    caught: list[int | None] = []

    def broken(budget: int) -> bytes:
        raise OSError(errno.EBADF, "Bad file descriptor")

    async def read(ns: aionvme.Namespace) -> None:
        try:
            await ns.read(0, 1)
        except OSError as error:
            caught.append(error.errno)

    async with aionvme.open("emu:nvm?latency=10ms") as ns:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(read, ns)
            while ns._io.submitted < 5:
                await anyio.lowlevel.checkpoint()
            monkeypatch.setattr(ns._io.queue, "tick", broken)
        with pytest.raises(aionvme.ClosedError, match="broken"):
            await ns.read(0, 1)
    assert caught == [errno.EBADF] * 5


async def test_a_command_is_on_time_and_the_processor_idle() -> None:
    """1.2 ms are neither cut short nor rounded up to the next millisecond, as loops' timers are, nor spent going round."""
    async with aionvme.open("emu:nvm?latency=1.2ms") as ns:
        buffer = ns.alloc(512)
        times = []
        start, used = time.perf_counter(), time.process_time()
        for _ in range(20):
            submitted = time.perf_counter()
            await ns.read(0, 1, into=buffer)
            times.append(time.perf_counter() - submitted)
        assert time.process_time() - used < (time.perf_counter() - start) / 2
        # The best of twenty: the machine may have other things to do.
        assert 0.0012 <= min(times) < 0.0018


async def test_descriptors_are_given_back() -> None:
    """A namespace that is open has a timer for each of its queues, one that was closed has none."""

    def timers() -> int:
        return sum("timerfd" in os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    for _ in range(3):
        async with aionvme.open("emu:nvm") as ns:
            await ns.read(0, 1)
            assert timers() == 2
        assert timers() == 0


def test_an_opening_that_fails_leaves_no_descriptor() -> None:
    """Without an event loop a namespace cannot be opened, and what was opened for it is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(aionvme.UsageError, match="no event loop"):
        aionvme.open("emu:nvm").__aenter__().send(None)
    assert len(os.listdir("/proc/self/fd")) == before
