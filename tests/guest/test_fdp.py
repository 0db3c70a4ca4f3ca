"""Flexible Data Placement: where a write goes is the host's choice, and the controller says what became of it.

nvme-cli is asked the same. QEMU's controller has one endurance group, with one reclaim group, and units of 1 MiB.
"""

import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest

import aionvme
from aionvme import Controller, Namespace
from aionvme.nvme import fdp, nvm
from aionvme.nvme.features import Fid
from aionvme.queues.attach import QueueChoice
from tests.conftest import controller_node, node

pytestmark = [pytest.mark.anyio, pytest.mark.feature("Flexible Data Placement")]

GROUP = 1
UNIT_BYTES = 1 << 20
DATA_PLACEMENT = 2
"""Directive type."""


@pytest.fixture
def anyio_backend() -> str:
    """It is the controller that is tested here."""
    return "asyncio"


@pytest.fixture(params=["interrupt", "polled"])
def queue(request: pytest.FixtureRequest) -> QueueChoice:
    """The same on both."""
    choice: QueueChoice = request.param
    return choice


@pytest.fixture
async def ns(queue: QueueChoice) -> AsyncIterator[Namespace]:
    """The namespace with Flexible Data Placement, each of its handles with an empty reclaim unit."""
    async with aionvme.open(node(1, "fdp"), queue=queue) as ns:
        # QEMU 10 refuses as many identifiers as there are handles, all of which a command may have.
        await ns.update_reclaim_unit_handles([0, 1])
        await ns.update_reclaim_unit_handles([2, 3])
        yield ns


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    """Its controller."""
    async with aionvme.open_controller(controller_node("fdp")) as controller:
        yield controller


def nvme(*arguments: str) -> Any:
    """The JSON document of an nvme-cli command."""
    command = ["/usr/sbin/nvme", "fdp", *arguments, "-o", "json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout)


async def place(ns: Namespace, slba: int, nlb: int, pid: int) -> None:
    """Write blocks with a placement identifier."""
    done = await ns.submit(nvm.write(slba, nlb, dtype=DATA_PLACEMENT, dspec=pid), data=bytes(nlb * ns.lba_size))
    assert done.status == 0


async def test_the_controller_has_it(controller: Controller) -> None:
    """Identify says so, of the controller and of the endurance group that the namespace is in."""
    assert controller.identify.raw["ctratt"] & fdp.CTRATT_FDP
    assert (await controller.identify_namespace(1)).raw["endgid"] == GROUP
    # The feature of the endurance group: enabled, with configuration 0.
    assert await controller.get_features(Fid.FLEXIBLE_DATA_PLACEMENT, cdw11=GROUP) == 1
    assert (await controller.commands_supported()).iocs[0x12].csupp


async def test_configurations(controller: Controller) -> None:
    """The one that the machine was started with: four handles, initially isolated, of one reclaim group."""
    (ours,) = await controller.fdp_configurations(GROUP)
    assert (ours.fdpcv, ours.fdpvwc, ours.rgif) == (True, False, 0)
    assert (ours.nrg, ours.nruh, ours.runs) == (1, 4, UNIT_BYTES)
    assert ours.ruht == (fdp.ReclaimUnitHandleType.INITIALLY_ISOLATED,) * 4
    assert (ours.maxpids, ours.nns, ours.erutl) == (128, 256, 0)
    theirs = nvme("configs", controller.target, "-e", str(GROUP))
    assert theirs["n"] == 0  # 0's based
    (configuration,) = theirs["configs"]
    assert configuration == {
        "fdpa": 0x80,
        "vss": int(ours.raw["vss"]),
        "nrg": ours.nrg,
        "nruh": ours.nruh,
        "nnss": ours.nns,
        "runs": ours.runs,
        "erutl": ours.erutl,
    }


async def test_usage(controller: Controller) -> None:
    """The namespace uses all handles."""
    ours = await controller.fdp_ruh_usage(GROUP)
    assert ours == (fdp.ReclaimUnitHandleAttribute.HOST_SPECIFIED,) * 4
    theirs = nvme("usage", controller.target, "-e", str(GROUP))
    assert theirs == {"nruh": 4, "ruhus": [{"ruha": ruha} for ruha in ours]}


@pytest.mark.feature("placement identifiers on writes")
async def test_placement_takes_room_from_its_unit_alone(ns: Namespace) -> None:
    """What is written with an identifier, split or not, is counted where it went, and nowhere else; a new unit is empty."""
    blocks = UNIT_BYTES // ns.lba_size
    assert (await ns.reclaim_unit_handle_status()).tolist() == [(pid, pid, 0, blocks) for pid in range(4)]
    for slba, nlb, pid in ((0, 3, 2), (100, 5, 1), (200, 7, 2), (300, 140, 3)):
        await ns.write(slba, bytes(nlb * ns.lba_size), placement=pid)
    assert 140 * ns.lba_size > ns.max_transfer_bytes
    ours = await ns.reclaim_unit_handle_status()
    assert ours["ruamw"].tolist() == [blocks, blocks - 5, blocks - 10, blocks - 140]
    theirs = nvme("status", ns.target)
    assert theirs == {
        "nruhsd": 4,
        "ruhss": [dict(zip(ours.dtype.names or (), row, strict=True)) for row in ours.tolist()],
    }

    await ns.update_reclaim_unit_handles([2])
    assert (await ns.reclaim_unit_handle_status())["ruamw"].tolist() == [blocks, blocks - 5, blocks, blocks - 140]


async def test_statistics(ns: Namespace, controller: Controller) -> None:
    """Host bytes grow by just what was written, with a placement identifier or without."""
    before = await controller.fdp_statistics(GROUP)
    for pid in range(4):
        await place(ns, 16 * pid, 16, pid)
    await ns.write(1000, bytes(8 * ns.lba_size))
    after = await ns.admin.fdp_statistics(GROUP)
    assert after.hbmw - before.hbmw == (4 * 16 + 8) * ns.lba_size
    assert after.mbmw - before.mbmw >= after.hbmw - before.hbmw
    assert after.mbe == before.mbe
    theirs = nvme("stats", controller.target, "-e", str(GROUP))
    assert {name: int(value) for name, value in theirs.items()} == vars(after)


async def enable_events(ns: Namespace, ph: int, event: int, enable: bool) -> None:
    """Set the FDP Events feature of a placement handle, for one type of event (TP 4146: cdw11 has PHNDL and NOET)."""
    await ns.admin.set_features(Fid.FDP_EVENTS, 1 << 16 | ph, nsid=ns.nsid, cdw12=int(enable), data=bytes([event]))
    descriptors = bytearray(2 * 6)
    count = await ns.admin.get_features(Fid.FDP_EVENTS, nsid=ns.nsid, cdw11=6 << 16 | ph, into=descriptors)
    assert count == 6
    assert dict(zip(descriptors[::2], descriptors[1::2], strict=True))[event] == int(enable)


async def test_events(ns: Namespace, controller: Controller) -> None:
    """A unit that is left before it was full is an event for the host, where that was asked for, and says where and when."""
    not_full = fdp.FdpEventType.RECLAIM_UNIT_NOT_FULLY_WRITTEN
    before = len(await controller.fdp_events(GROUP, host=True))
    await enable_events(ns, 3, not_full, True)
    await place(ns, 0, 4, 3)
    await ns.update_reclaim_unit_handles([3])
    await enable_events(ns, 3, not_full, False)
    await ns.update_reclaim_unit_handles([3])
    ours = await controller.fdp_events(GROUP, host=True)
    assert len(ours) == before + 1
    last = ours[-1]
    assert (last.fdpet, last.pid, last.nsid, last.rgid, last.ruhid) == (not_full, 3, ns.nsid, 0, 3)
    timestamp = bytearray(8)
    await controller.get_features(Fid.TIMESTAMP, into=timestamp)
    assert 0 <= int.from_bytes(timestamp[:6], "little") - last.timestamp < 60_000
    assert await controller.fdp_events(GROUP, host=False) == []
    theirs = nvme("events", controller.target, "-e", str(GROUP), "-E")
    assert theirs["n"] == len(ours)
    for event, theirs_of_it in zip(ours, theirs["events"], strict=True):
        assert (theirs_of_it["type"], theirs_of_it["pid"], theirs_of_it["nsid"]) == (event.fdpet, event.pid, event.nsid)


async def test_an_endurance_group_that_is_not_there(controller: Controller) -> None:
    """The controller says so."""
    for ask in (controller.fdp_statistics, controller.fdp_configurations, controller.fdp_ruh_usage):
        with pytest.raises(aionvme.InvalidFieldError, match=r"GET_LOG_PAGE \(LID 0x2[012]\)"):
            await ask(GROUP + 1)
