"""Opening a target: which path its commands take, and why not a better one."""

import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Literal, SupportsIndex, get_args

from aionvme._core import lib
from aionvme.devices import GenericDevice, driver_parameter, find, kernel_version
from aionvme.emulator import Device, parse_spec
from aionvme.emulator.device import NSID
from aionvme.errors import UsageError
from aionvme.queues.base import Queue, QueueKind
from aionvme.queues.emulated import EmulatedQueue
from aionvme.queues.polled import PolledQueue
from aionvme.queues.ring import RingQueue

QueueChoice = Literal["auto", "raw", "polled", "interrupt", "emulated"]

Target = str | bytes | os.PathLike[str]

ADMIN_DEPTH = 4
"""Admin commands are few; the driver's own admin queue holds 32."""

DEPTH_MAX = 16384
"""Half of the largest submission queue of an io_uring, so that the completion queue can be twice the depth."""

PAGE_SIZE = 4096

SEGMENTS = 127
"""NVMe's limit on segments where sysfs does not say (Linux 6.1, drivers/nvme/host/pci.c)."""


@dataclass(frozen=True)
class PathReport:
    """The path that commands take, and the reasons why each better one was not to be had."""

    kind: QueueKind
    depth: int
    why_not: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        reasons = "".join(f"; not {kind}: {reason}" for kind, reason in self.why_not.items())
        return f"{self.kind}, depth {self.depth}{reasons}"


@dataclass(frozen=True)
class Attachment:
    """A target with its queues open, before anything has been asked of it."""

    target: str
    nsid: int
    io: Queue
    admin: Queue
    path: PathReport
    max_transfer_bytes: int | None
    """The kernel's limit on one command's data, None where there is only the controller's."""
    chunk_bytes: int
    """Largest piece of memory that one registration may have."""
    close: Callable[[], None]
    """Releases everything: queues that nobody has closed, and what is under them."""


def attach(target: Target, choice: QueueChoice, depth: SupportsIndex) -> Attachment:
    """Open a target: an emulator spec (``emu:zns?...``) or the path of an NVMe generic device.

    Raises UsageError where the target or the arguments are not usable, OSError where the kernel refuses.
    """
    if choice not in get_args(QueueChoice):
        raise UsageError(f"queue={choice!r}: choose one of {', '.join(get_args(QueueChoice))}")
    if not hasattr(depth, "__index__") or not 1 <= index(depth) <= DEPTH_MAX:
        raise UsageError(f"depth={depth!r}: a queue holds 1 to {DEPTH_MAX} commands")
    depth = index(depth)
    name = os.fsdecode(target)
    if not name:
        raise UsageError("the target is an empty string: name a device such as /dev/ng0n1, or emu:nvm or emu:zns")
    if "\0" in name:
        raise UsageError(f"{name!r} is no path: it has a null character in it")
    if name.startswith("emu:"):
        return _attach_emulated(name, choice, depth)
    return _attach_device(find(Path(name)), choice, depth)


def _attach_emulated(spec: str, choice: QueueChoice, depth: int) -> Attachment:
    if choice not in ("auto", "emulated"):
        raise UsageError(f"queue={choice!r}: {spec} is served in this process, with queue='emulated' or 'auto'")
    device = Device(parse_spec(spec))
    return Attachment(
        target=spec,
        nsid=NSID,
        io=EmulatedQueue(device, depth=depth),
        admin=EmulatedQueue(device, depth=ADMIN_DEPTH, admin=True),
        path=PathReport("emulated", depth),
        max_transfer_bytes=None,
        chunk_bytes=1 << 30,
        close=device.close,
    )


def _attach_device(device: GenericDevice, choice: QueueChoice, depth: int) -> Attachment:
    if choice == "emulated":
        raise UsageError(
            f"queue='emulated': {device.path} is a real device; an emulated one is opened as 'emu:zns' or 'emu:nvm'"
        )
    # More would wait in the kernel, where they hold resources, rather than here, where they can still be cancelled.
    depth = min(depth, device.queue_limit("nr_requests") or depth)
    with ExitStack() as undo:
        fd = _open(device.path, undo)
        controller = _open(device.controller, undo)
        admin = RingQueue(controller, lib.NVME_URING_CMD_ADMIN, kind="interrupt", depth=ADMIN_DEPTH)
        undo.callback(admin.close)
        io, why_not = _open_queue(device, fd, choice, depth)
        undo.callback(io.close)
        nsid = _nsid(fd, device.path)
        undo.pop_all()
    segments = device.queue_limit("max_segments") or SEGMENTS

    def close() -> None:
        io.close()
        admin.close()
        os.close(fd)
        os.close(controller)

    return Attachment(
        target=str(device.path),
        nsid=nsid,
        io=io,
        admin=admin,
        path=PathReport(io.kind, depth, why_not),
        max_transfer_bytes=_max_transfer(device, segments),
        # A power of two, so that no aligned block straddles two registrations.
        chunk_bytes=min(1 << (segments * PAGE_SIZE).bit_length() - 1, 1 << 30),
        close=close,
    )


def _open(path: Path, undo: ExitStack) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            "not allowed to open it for reading and writing: run as root, or give this user the device node",
            str(path),
        ) from None
    undo.callback(os.close, fd)
    return fd


def _nsid(fd: int, path: Path) -> int:
    try:
        return fcntl.ioctl(fd, lib.NVME_IOCTL_ID)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, asking for its namespace identifier", str(path)) from None


def _max_transfer(device: GenericDevice, segments: int) -> int:
    # A buffer that starts inside a page touches one page more than its length fills, and each may be a segment of its own.
    limit = (segments - 1) * PAGE_SIZE
    max_hw_sectors_kb = device.queue_limit("max_hw_sectors_kb")
    return limit if max_hw_sectors_kb is None else min(limit, max_hw_sectors_kb << 10)


def _open_queue(device: GenericDevice, fd: int, choice: QueueChoice, depth: int) -> tuple[Queue, dict[str, str]]:
    """The queue that was asked for, or the best one with the reasons against those before it."""
    why_not = {"raw": why_not_raw()}
    if choice in ("auto", "polled"):
        reason = why_not_polled(device) or (why_auto_does_not_poll() if choice == "auto" else None)
        if reason is None:
            queue = PolledQueue(fd, lib.NVME_URING_CMD_IO, depth=depth)
            return queue, why_not if choice == "auto" else {}
        why_not["polled"] = reason
    if choice in ("raw", "polled"):
        raise UsageError(f"queue={choice!r} is not to be had for {device.path}: {why_not[choice]}")
    return RingQueue(fd, lib.NVME_URING_CMD_IO, kind="interrupt", depth=depth), why_not if choice == "auto" else {}


def why_not_raw() -> str:
    """Why commands do not take a raw queue on this machine."""
    if driver_parameter("raw_queues") is None:
        return "this kernel's nvme driver has no raw queues (parameter raw_queues): they never reached mainline Linux"
    return "this version of aionvme does not use the raw queues of this kernel"


def why_not_polled(device: GenericDevice) -> str | None:
    """Why a device's commands cannot be polled for, None where they can. Raises OSError where there is no io_uring."""
    if device.queue_limit("io_poll") != 1:
        queues = driver_parameter("poll_queues")
        return (
            f"the driver keeps no queues for polling: load it with nvme.poll_queues=2 or so (poll_queues is {queues})"
        )
    if not RingQueue.polling_supported():
        return "polled passthrough needs Linux 6.1"
    return None


def why_auto_does_not_poll() -> str | None:
    """Why "auto" does not poll where polling can be had, None where it does."""
    if kernel_version() < (6, 5):
        return (
            "Linux before 6.5 can crash in its polling of passthrough commands; queue='polled' polls all the same, and "
            "sends what moves no data, which is what is known to crash, another way"
        )
    return None
