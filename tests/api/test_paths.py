"""Which path commands take, and why not a better one: on the emulated device, and in the guest on a real one."""

import os
from pathlib import Path

import pytest

import aionvme
from tests.conftest import IN_VM, RAW, Place

pytestmark = pytest.mark.anyio


async def test_the_queue_that_was_asked_for_is_the_one_in_use(place: Place) -> None:
    """A queue named explicitly is given, with nothing to explain."""
    async with place.open(place.zns, depth=16) as ns:
        assert (ns.queue.kind, ns.queue.depth, ns.queue.why_not) == (place.queue, 16, {})


if IN_VM and not RAW:

    async def test_auto_takes_the_best_there_is(place: Place) -> None:
        """Where there are poll queues auto polls from Linux 6.5 on, and on every mainline kernel says why not raw."""
        polls = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 5)
        async with aionvme.open(place.nvm_512) as ns:
            assert ns.queue.kind == ("polled" if polls else "interrupt")
            assert list(ns.queue.why_not) == (["raw"] if polls else ["raw", "polled"])
            assert "never reached mainline" in str(ns.queue)
            assert polls or "Linux before 6.5 can crash" in ns.queue.why_not["polled"]

    async def test_a_raw_queue_is_refused_with_the_reason(place: Place) -> None:
        """queue="raw" on a mainline kernel raises and says what is missing."""
        with pytest.raises(aionvme.UsageError, match="raw_queues"):
            async with aionvme.open(place.nvm_512, queue="raw"):
                pass


if IN_VM:

    async def test_depth_ends_at_what_the_device_has(place: Place) -> None:
        """No more commands are in flight than the device's queue has requests for, and ns.queue says how many."""
        # With multipath commands take the queues of the paths, which have block devices of their own, out of sight.
        queues = Path("/sys/class/block")
        (file,) = [*queues.glob("nvme0c*n1/queue/nr_requests")] or [queues / "nvme0n1/queue/nr_requests"]
        nr_requests = int(file.read_text())
        async with place.open(place.nvm_512, depth=16384) as ns:
            assert ns.queue.depth == nr_requests < 16384
            assert ns._io.queue.depth == nr_requests

    @pytest.mark.parametrize(
        ("node", "hint"), [("/dev/nvme0n1", "/dev/ng0n1"), ("/dev/nvme0", "/dev/ng0n1")], ids=["block", "controller"]
    )
    async def test_the_neighbours_of_a_namespace_point_to_it(place: Place, node: str, hint: str) -> None:
        """The block device and the controller are refused, naming the node that would do."""
        with pytest.raises(aionvme.UsageError, match=hint):
            async with place.open(node):
                pass
