"""What every test shares: the event loops, and the places where the API tests run."""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import aionvme
from aionvme.devices import driver_parameter, generic_devices, kernel_version
from aionvme.driver import fast
from aionvme.queues.attach import QueueChoice

IN_VM = os.environ.get("AIONVME_VM") == "1"
"""Set by the test bed for what it runs in its guest, where there is an NVMe controller."""

RAW = IN_VM and bool(driver_parameter("raw_queues"))
"""The guest's kernel is the one of _native/kernel, and its controllers have raw queues."""


ASYNCIO: tuple[str, dict[str, bool]] = ("asyncio", {"use_uvloop": False})
UVLOOP: tuple[str, dict[str, bool]] = ("asyncio", {"use_uvloop": True})
TRIO: tuple[str, dict[str, bool]] = ("trio", {})


@dataclass(frozen=True)
class Place:
    """Somewhere the API can run: a queue, and the namespaces it serves."""

    queue: QueueChoice
    nvm_512: str
    nvm_4096: str
    zns: str
    zns_zrwa: str
    """Zoned, with zone descriptor extensions and random write areas."""

    def open(self, target: str, **options: Any) -> AbstractAsyncContextManager[aionvme.Namespace]:
        """Open one of the place's namespaces."""
        return aionvme.open(target, queue=self.queue, **options)


# The geometry of the emulated namespaces is that of the test bed's controller (tests/vm/devices.py).
EMULATED = Place(
    "emulated",
    "emu:nvm?size=64MiB&lba=512&latency=20us-400us&seed=1",
    "emu:nvm?size=64MiB&lba=4096&latency=20us-400us&seed=2",
    "emu:zns?zones=32&zone_size=4MiB&zone_capacity=3MiB&mor=6&mar=8&latency=20us-400us&seed=3",
    "emu:zns?zones=16&zone_size=1MiB&zone_capacity=768KiB&mor=4&mar=6&zdes=128&zrwas=64KiB&zrwafg=16KiB&numzrwa=2"
    "&latency=20us-400us&seed=4",
)


def node(nsid: int, controller: str = "nvme0") -> str:
    """The guest's device node of a namespace, by the test bed's names, which are the controllers' serial numbers.

    The kernel's names follow the order in which it finds things, on newer kernels not that of the numbers.
    """
    for device in generic_devices():
        block = Path("/sys/class/block", device.block_name)
        found = [(block / attribute).read_text().strip() for attribute in ("device/serial", "nsid")]
        if found == [controller, str(nsid)]:
            return str(device.path)
    raise LookupError(f"no namespace {nsid} of controller {controller} in the guest")


def controller_node(serial: str) -> str:
    """The guest's device node of a controller, by the test bed's name."""
    for entry in Path("/sys/class/nvme").glob("nvme*"):
        if (entry / "serial").read_text().strip() == serial:
            return f"/dev/{entry.name}"
    raise LookupError(f"no controller {serial} in the guest")


def guest() -> list[Place]:
    """The guest's namespaces, as the test bed makes them (tests/vm/devices.py), through each queue its kernel is for."""
    queues: tuple[QueueChoice, ...] = ("raw",) if RAW else ("interrupt", "polled")
    return [Place(queue, node(1), node(3), node(2), node(8)) for queue in queues]


@pytest.fixture(
    params=[
        pytest.param(ASYNCIO, id="asyncio"),
        pytest.param(UVLOOP, id="uvloop"),
        pytest.param(TRIO, id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on every event loop."""
    return request.param


@pytest.fixture(params=guest() if IN_VM else [EMULATED], ids=lambda place: place.queue)
def place(request: pytest.FixtureRequest) -> Place:
    """Where the test runs: in the guest on its controller, through each queue; otherwise on emulated namespaces."""
    place: Place = request.param
    return place


def leave_by_force(waiting: Any, how: str) -> None:
    """Have a coroutine end where it waits, without its loop: closed, or with an exception thrown into it."""
    if how == "close":
        waiting.close()
    else:
        with pytest.raises(KeyError):
            waiting.throw(KeyError("boom"))


@pytest.fixture(params=["nvm_512", "nvm_4096"])
async def nvm(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[aionvme.Namespace]:
    """A conventional namespace, with each block size."""
    async with place.open(getattr(place, request.param)) as ns:
        yield ns


@pytest.fixture
async def zns(place: Place) -> AsyncIterator[aionvme.Namespace]:
    """A zoned namespace with every zone empty."""
    async with place.open(place.zns) as ns:
        await ns.reset_zone(select_all=True)
        yield ns


NEEDS: dict[str, str] = {}
"""Features that the running kernel is too old for, and from which Linux on there are."""


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the markers, and have SIGINT interrupt, which shells have ignored by what they run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "feature(name, since=(0, 0)): what a test is about, and what Linux that needs")
    config.addinivalue_line("markers", "once: in the guest on one queue and event loop, since it is above the queue")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the kernel is too old for, and say of each test which path it takes, and what it is about."""
    too_new = [item for item in items if IN_VM and _since(item) > kernel_version()]
    for item in too_new:
        for mark in item.iter_markers("feature"):
            NEEDS[mark.args[0]] = "{}.{}".format(*_since(item))
    left_out = {*too_new, *(item for item in items if IN_VM and _spared(item))}
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        place = params.get("place")
        if place is not None:
            path = f"{place.queue} queue"
        elif "raw" in item.path.parts:
            path = "raw queue"
        elif "guest" in item.path.parts:
            path = f"{params['queue']} queue" if "queue" in params else "QEMU's controllers"
        elif "native" in item.path.parts:
            path = "real ring on the host"
        else:
            path = "no device"
        if not fast.IN_C:
            path += ", pure Python"
        item.user_properties.append(("path", path))
        for mark in item.iter_markers("feature"):
            item.user_properties.append(("feature", mark.args[0]))


def _spared(item: pytest.Item) -> bool:
    """Whether the guest leaves a test out because it runs there on other queues and event loops already.

    Each test runs on every queue of the guest's, and but for raw queues on every loop, but not on all pairs of them: the host has
    all loops.
    """
    params = item.callspec.params if hasattr(item, "callspec") else {}
    place, backend = params.get("place"), params.get("anyio_backend")
    if item.get_closest_marker("once"):
        return (place is not None and place.queue == "polled") or backend not in (None, ASYNCIO)
    return place is not None and (place.queue, backend) in (("polled", UVLOOP), ("interrupt", TRIO), ("raw", UVLOOP))


def _since(item: pytest.Item) -> tuple[int, int]:
    return max((mark.kwargs.get("since", (0, 0)) for mark in item.iter_markers("feature")), default=(0, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests passed on which path; leave that, and the outcomes by feature and path, to be summed up."""
    paths: dict[str, Counter[str]] = {}
    features: dict[str, dict[str, Counter[str]]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = getattr(report, "user_properties", ())
            path = dict(properties).get("path")
            if path is None:
                continue
            paths.setdefault(path, Counter())[outcome] += 1
            for name, value in properties:
                if name == "feature":
                    features.setdefault(value, {}).setdefault(path, Counter())[outcome] += 1
    terminalreporter.section("paths")
    for path, numbers in sorted(paths.items()):
        terminalreporter.line(f"{path}: " + ", ".join(f"{n} {outcome}" for outcome, n in numbers.items()))
    if directory := os.environ.get("AIONVME_VM_RESULTS"):
        kernel = "{}.{}".format(*kernel_version())
        name = "raw" if RAW else f"guest-{kernel}" if IN_VM else "host" if fast.IN_C else "pure"
        results = {"release": os.uname().release, "paths": paths, "features": features, "needs": NEEDS}
        Path(directory, f"{name}.json").write_text(json.dumps(results))
