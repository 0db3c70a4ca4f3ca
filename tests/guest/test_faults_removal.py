"""A controller that is taken away with commands in flight, through sysfs or out of its slot, and put back."""

import errno
from pathlib import Path

import anyio
import pytest

import aionvme
from aionvme.devices import attribute_text
from tests.conftest import node
from tests.guest import monitor
from tests.guest.faults import (
    CONTROLLER,
    DRIVE,
    Buffers,
    Ends,
    FaultQueue,
    all_in_flight,
    comes_back,
    controller,
    cut_off,
    io_timeout,
    kept,
    on_each_path,
    target,
    until,
    works,
    write_sysfs,
)
from tests.vm.faults import PLUGGABLE

pytestmark = [pytest.mark.anyio, on_each_path, pytest.mark.feature("hot-unplug")]


async def remove(target: str) -> None:
    """Have the kernel let go of a controller, and forget the function of the bus that it is."""
    await write_sysfs(controller(target) / "device" / "remove", "1")


async def plug_in() -> None:
    """Put the pluggable controller back, as soon as it has been let go."""
    with anyio.fail_after(30):
        while True:
            try:
                monitor.plug()
            except RuntimeError:
                await anyio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("way", ["sysfs", "slot"])
async def test_a_controller_is_taken_away(way: str, queue: FaultQueue) -> None:
    """Every task ends with DeviceGoneError, and no buffer is released before its command has ended; the namespace can only be
    closed; another controller is used all the while, in the same loop; and what comes back is opened anew."""
    place = (CONTROLLER, 2) if way == "sysfs" else (PLUGGABLE.name, 1)
    found = node(place[1], place[0])
    ends, buffers = Ends(), Buffers()
    try:
        async with aionvme.open(found, queue=queue) as ns, aionvme.open(node(1, "nvme1"), queue=queue) as neighbour:

            async def read_on(slba: int) -> None:
                while True:
                    await ns.read(slba, 1, into=buffers.new(ns.lba_size))

            async with anyio.create_task_group() as tasks:
                before = ns._io.submitted
                for i in range(16):
                    tasks.start_soon(ends.note, lambda i=i: read_on(i))
                await all_in_flight(ns, before + 64)
                tasks.start_soon(kept, buffers, ns)
                if way == "sysfs":
                    await remove(found)
                else:
                    monitor.pull()
                await works(neighbour)
            assert [type(end) for end in ends.all] == [aionvme.DeviceGoneError] * 16
            await until(lambda: not buffers.living())
            with pytest.raises(aionvme.DeviceGoneError, match="gone") as caught:
                await ns.read(0, 1)
            assert caught.value.errno in (errno.ENODEV, errno.EINVAL)  # the latter where the kernel counts paths
            with pytest.raises(aionvme.DeviceGoneError), anyio.fail_after(30):
                while True:  # the controller goes after its namespaces
                    await ns.submit_admin(aionvme.Command(opcode=0x06, cdw10=1), into=bytearray(4096))
            assert ns._io.in_flight == 0
            await works(neighbour)
        with pytest.raises(FileNotFoundError, match="aionvme list"):
            await aionvme.open(found).__aenter__()
    finally:
        with anyio.CancelScope(shield=True):
            if way == "sysfs":
                await write_sysfs(Path("/sys/bus/pci/rescan"), "1")
            else:
                await plug_in()
            found = await comes_back(*place)
    async with aionvme.open(found, queue=queue) as ns:
        await works(ns)


async def test_a_controller_that_is_lost_first(queue: FaultQueue) -> None:
    """A controller that does not answer any more is removed: what it had in flight is given up when its time is over, and is told
    as DeviceGoneError too. Buffers are kept until then."""
    buffers, ends = Buffers(), Ends()
    place = target()
    state = controller(place) / "state"
    try:
        with io_timeout(place, 2000):
            monitor.throttle(DRIVE, 4)
            async with aionvme.open(place, queue=queue) as ns, anyio.create_task_group() as tasks:
                before = ns._io.submitted
                for i in range(6):
                    tasks.start_soon(ends.note, lambda i=i: ns.write(i, buffers.new(ns.lba_size)))
                await all_in_flight(ns, before + 6)
                cut_off(place)
                tasks.start_soon(remove, place)
                await until(lambda: attribute_text(state) != "live")
                assert buffers.living() >= ns._io.in_flight > 0
                with anyio.fail_after(60):
                    await until(lambda: ns._io.in_flight == 0, 60)
        assert len(ends.all) == 6
        assert ends.others(aionvme.DeviceGoneError) == []
        assert {end.errno for end in ends.failed() if isinstance(end, OSError)} <= {
            errno.EINTR,
            errno.EIO,
            errno.EINVAL,
        }
        assert ends.failed()
        await until(lambda: not buffers.living())
    finally:
        with anyio.CancelScope(shield=True):
            monitor.throttle(DRIVE, 0)
            await write_sysfs(Path("/sys/bus/pci/rescan"), "1")
            await comes_back(CONTROLLER, 2)
