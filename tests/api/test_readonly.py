"""A namespace that was opened with readonly=True: nothing that may change something gets as far as a queue."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aionvme
from aionvme import Command, Namespace
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("opened for reading only")]

Call = Callable[[Namespace], Awaitable[Any]]


def block(ns: Namespace) -> np.ndarray:
    """A buffer of one block."""
    return np.zeros(ns.lba_size, np.uint8)


async def refused(ns: Namespace, call: Call) -> None:
    """Expect ReadOnlyError, and no command submitted for it."""
    before = ns._io.submitted + ns._admin.submitted
    with pytest.raises(aionvme.ReadOnlyError, match="opened with readonly=True"):
        await call(ns)
    assert ns._io.submitted + ns._admin.submitted == before


def kept(target: str, tmp_path: Path) -> str:
    """The same target, where it is emulated kept in a file from one opening to the next."""
    return f"{target}&file={tmp_path / 'image'}" if target.startswith("emu:") else target


COMMON = [
    lambda ns: ns.write(0, block(ns)),
    lambda ns: ns.write(0, np.zeros(4 << 20, np.uint8)),
    lambda ns: ns.limited(aionvme.Limiter(depth=1)).write(0, block(ns)),
    lambda ns: ns.write_zeroes(0, 1),
    lambda ns: ns.deallocate([(0, 1)]),
    lambda ns: ns.copy(8, [(0, 1)]),
    lambda ns: ns.write_many([0, 1], 1, np.zeros(2 * ns.lba_size, np.uint8)),
    lambda ns: ns.submit_many([Command(0x02), Command(0x04)], block(ns)),
    lambda ns: ns.submit(Command(0x04)),  # Write Uncorrectable
    lambda ns: ns.submit(Command(0x1D)),  # I/O Management Send
    lambda ns: ns.submit(Command(0x90)),  # a vendor's
    lambda ns: ns.submit_admin(Command(0x80)),  # Format NVM
    lambda ns: ns.submit_admin(Command(0x09, cdw10=0x04)),  # Set Features
    lambda ns: ns.submit_admin(Command(0x10)),  # Firmware Commit
    lambda ns: ns.submit_admin(Command(0xC0)),  # a vendor's
    lambda ns: ns.admin.set_features(0x04, 0),
]

ZONED = [
    lambda ns: ns.zone_append(0, block(ns)),
    lambda ns: ns.append_many([0, 0], 1, np.zeros(2 * ns.lba_size, np.uint8)),
    lambda ns: ns.reset_zone(0),
    lambda ns: ns.reset_zone(select_all=True),
    lambda ns: ns.finish_zone(0),
    lambda ns: ns.open_zone(0),
    lambda ns: ns.close_zone(0),
    lambda ns: ns.flush_zrwa(0),
    lambda ns: ns.zones[0].append(block(ns)),
    lambda ns: ns.zones[0].write(block(ns)),
    lambda ns: ns.zones[0].write_zrwa(0, block(ns)),
    lambda ns: ns.zones[0].open(),
    lambda ns: ns.zones[0].opened().__aenter__(),
    lambda ns: ns.zones[0].reset(),
    lambda ns: aionvme.ZoneLog.create(ns, ns.zones[:4]),
]


async def test_a_conventional_namespace(place: Place, tmp_path: Path) -> None:
    """Whatever writes is refused; what reads is carried out, the admin commands for that too."""
    target = kept(place.nvm_512, tmp_path)
    async with place.open(target) as ns:
        await ns.write(0, b"\x5a" * 512)
    async with place.open(target, readonly=True) as ns:
        assert ns.why_not_writable == "it was opened with readonly=True"
        for call in COMMON:
            await refused(ns, call)
        with pytest.raises(aionvme.ReadOnlyError):
            ns.check_writable()
        assert (await ns.read(0, 1)).tobytes() == b"\x5a" * 512
        assert len(await ns.read(0, 4096)) == 2 << 20
        assert (await ns.read_many([0, 0], 1, np.zeros(1024, np.uint8)))["status"].tolist() == [0, 0]
        await ns.flush()
        await ns.compare(0, b"\x5a" * 512)
        page = np.zeros(512, np.uint8)
        assert not (await ns.submit_admin(Command(0x02, nsid=0xFFFFFFFF, cdw10=0x02 | 127 << 16), into=page)).status
        assert not (await ns.submit_admin(Command(0x0A, cdw10=0x04))).status


async def test_a_zoned_namespace(place: Place, tmp_path: Path) -> None:
    """Zones neither, nor their objects, which stay as they are known; a log that is there can be read."""
    target = kept(place.zns, tmp_path)
    async with place.open(target) as ns:
        log = await aionvme.ZoneLog.create(ns, ns.zones[:4])
        record = await log.append(b"what is there")
    async with place.open(target, readonly=True) as ns:
        for call in (*COMMON[:1], *ZONED):
            await refused(ns, call)
        assert {zone.zs for zone in ns.zones[1:4]} == {aionvme.ZoneState.EMPTY}
        assert len(await ns.report_zones()) == ns.nr_zones
        log = await aionvme.ZoneLog.recover(ns, ns.zones[:4])
        assert await log.read(record.sequence) == b"what is there"
        await refused(ns, lambda _: log.append(b"more"))


async def test_a_trace_is_replayed_where_it_only_reads(place: Place, tmp_path: Path) -> None:
    """A replay that writes is refused before its first command, one of reads is not."""
    for write in (True, False):
        file = tmp_path / "trace.npy"
        async with place.open(place.nvm_512, trace=file) as ns:
            await ns.read(0, 1)
            if write:
                await ns.write(0, block(ns))
        trace = aionvme.load_trace(file)
        async with place.open(place.nvm_512, readonly=True) as ns:
            if write:
                await refused(ns, lambda ns, trace=trace: aionvme.replay(trace, ns, speed=None))  # type: ignore[misc]
            else:
                assert (await aionvme.replay(trace, ns, speed=None))["status"].tolist() == [0]


async def test_a_controller() -> None:
    """A controller that was opened for reading only says what it is, and takes nothing else."""
    async with aionvme.open_controller("emu:nvm", readonly=True) as controller:
        assert (await controller.identify_controller()).mn == controller.identify.mn
        with pytest.raises(aionvme.ReadOnlyError, match="opened with readonly=True"):
            await controller.submit(Command(0x80))
        with pytest.raises(aionvme.ReadOnlyError):
            await controller.set_features(0x04, 0)


async def test_writing_is_not_refused_otherwise(place: Place) -> None:
    """Opened in the ordinary way, a namespace that nobody uses says so."""
    async with place.open(place.nvm_512) as ns:
        assert ns.why_not_writable is None
        ns.check_writable()
