"""What open() refuses, and how it says so."""

from pathlib import Path
from typing import Any

import pytest

import aionvme

pytestmark = pytest.mark.anyio


async def opened(target: Any, **options: Any) -> None:
    """Open and close a target."""
    async with aionvme.open(target, **options):
        pass


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("emu:", "emu:nvm or emu:zns", id="no kind"),
        pytest.param("emu:kv", "emu:nvm or emu:zns", id="unknown kind"),
        pytest.param("emu:zns?zone=16", "takes zones", id="unknown key"),
        pytest.param("emu:zns?zones", "no value", id="no value"),
        pytest.param("emu:zns?zones=many", "whole number", id="not a number"),
        pytest.param("emu:zns?zones=0", "at least one", id="no zones"),
        pytest.param("emu:zns?zone_size=4MB", "MiB", id="unknown unit"),
        pytest.param("emu:zns?zone_size=1MiB&zone_capacity=2MiB", "more than zone_size", id="capacity above size"),
        pytest.param("emu:zns?mar=4&mor=5", "more open zones than active", id="mor above mar"),
        pytest.param("emu:nvm?lba=520", "512 or 4096", id="block size"),
        pytest.param("emu:nvm?size=1000", "multiple", id="size not in blocks"),
        pytest.param("emu:nvm?size=1MiB&size=2MiB", "twice", id="given twice"),
        pytest.param("emu:nvm?latency=fast", "latency", id="latency"),
        pytest.param("emu:nvm?zones=4", "takes size", id="zones of a conventional namespace"),
        pytest.param("/dev/null", "not an NVMe namespace", id="another character device"),
        pytest.param(__file__, "no device at all", id="a regular file"),
        pytest.param("/", "no device at all", id="a folder"),
        pytest.param(Path("/dev/zero"), "not an NVMe namespace", id="a Path"),
        pytest.param("", "empty string", id="an empty string"),
        pytest.param("EMU:zns", "emu:nvm or emu:zns", id="upper case"),
        pytest.param("emu", "emu:nvm or emu:zns", id="half a spec"),
    ],
)
async def test_a_target_that_is_none_is_refused(target: str, message: str) -> None:
    """Garbage and files that are no NVMe namespaces raise UsageError naming what is wrong."""
    with pytest.raises((aionvme.UsageError, FileNotFoundError), match=message):
        await opened(target)


async def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    """A path that does not exist raises FileNotFoundError and points to the list."""
    with pytest.raises(FileNotFoundError, match="aionvme list"):
        await opened(tmp_path / "ng9n9")


@pytest.mark.parametrize("queue", ["raw", "polled", "interrupt"])
async def test_an_emulated_namespace_has_only_its_own_queue(queue: Any) -> None:
    """Asking for a kernel's queue on an emulated namespace is refused."""
    with pytest.raises(aionvme.UsageError, match="served in this process"):
        await opened("emu:nvm", queue=queue)


@pytest.mark.parametrize(
    "options", [{"queue": "best"}, {"queue": None}, {"depth": 0}, {"depth": -1}, {"depth": 1 << 20}, {"depth": "deep"}]
)
async def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """An unknown queue or an impossible depth is refused, naming it."""
    with pytest.raises(aionvme.UsageError, match=next(iter(options))):
        await opened("emu:nvm", **options)


async def test_auto_takes_the_emulated_queue_and_says_so() -> None:
    """ns.queue tells the path and its depth."""
    async with aionvme.open("emu:nvm", depth=7) as ns:
        assert (ns.queue.kind, ns.queue.depth) == ("emulated", 7)
        assert str(ns.queue) == "emulated, depth 7"


def test_opening_outside_of_an_event_loop_is_refused() -> None:
    """Without asyncio or trio running there is nothing to wait on."""
    context = aionvme.open("emu:nvm")
    with pytest.raises(aionvme.UsageError, match="no event loop"):
        context.__aenter__().send(None)


async def test_forgetting_async_with_is_explained() -> None:
    """What open() gives, used as if it were the namespace, says how it is meant."""
    opening: Any = aionvme.open("emu:nvm")
    with pytest.raises(AttributeError, match=r"async with aionvme\.open"):
        await opening.read(0, 1)
    with pytest.raises(TypeError, match=r"async with aionvme\.open"):
        await opening
    with pytest.raises(TypeError, match=r"async with aionvme\.open"), opening:
        pass
