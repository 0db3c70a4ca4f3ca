"""Opening a target: which path its commands take, and why not a better one."""

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from operator import index
from pathlib import Path
from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from aionvme._core import lib
from aionvme.devices import GenericDevice, Presence, controller_folder, find, find_controller, presence
from aionvme.emulator import Device, parse_spec
from aionvme.emulator.device import NSID
from aionvme.errors import UsageError
from aionvme.queues.base import Queue, QueueKind
from aionvme.queues.emulated import EmulatedQueue
from aionvme.queues.ioctl import IoctlQueue
from aionvme.queues.polled import PolledQueue, why_auto_does_not_poll, why_not_polled
from aionvme.queues.raw import PAGE_SIZE, ProposedRawQueue, open_raw_queue, why_not_raw
from aionvme.queues.ring import RingQueue

QueueChoice = Literal["auto", "raw", "polled", "interrupt", "emulated"]

Target = str | bytes | os.PathLike[str]

ADMIN_DEPTH = 4
"""Admin commands are few; the driver's own admin queue holds 32."""

DEPTH_MAX = 16384
"""Half of the largest submission queue of an io_uring, so that the completion queue can be twice the depth."""

REGISTERED_MAX_BYTES = 1 << 30
"""Most memory of one registered buffer, by io_uring's own limit."""

SEGMENTS = 127
"""NVMe's limit on segments where sysfs does not say (Linux 6.1, drivers/nvme/host/pci.c)."""


@dataclass(frozen=True)
class PathReport:
    """The path that commands take, and the reasons why each better one was not to be had.

    ``detour`` says in words which commands take another path, where some do. With ``sqpoll`` a thread of the kernel's submits.
    """

    kind: QueueKind
    depth: int
    why_not: Mapping[str, str] = field(default_factory=dict, hash=False)
    detour: str = ""
    sqpoll: bool = False

    def __str__(self) -> str:
        thread = ", submitted by a thread of the kernel's" if self.sqpoll else ""
        detour = f" ({self.detour})" if self.detour else ""
        reasons = "".join(f"; not {kind}: {reason}" for kind, reason in self.why_not.items())
        return f"{self.kind}, depth {self.depth}{thread}{detour}{reasons}"


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
    segments: int | None
    """Most pieces of memory that the device takes for one vectored command, None where that is not limited."""
    no_metadata: str
    """Why a command cannot have a buffer of metadata, empty where it can."""
    device: GenericDevice | None
    """None of an emulated namespace."""
    zone_counters: Callable[[], NDArray[np.void]] | None
    """What happened to each zone (:data:`~aionvme.emulator.zone_counters.ZONE_COUNTERS`), None where nothing counts it."""
    io_presence: Presence
    """Whether the device behind ``io`` is there."""
    admin_presence: Presence
    """The same of ``admin``."""
    close: Callable[[], None]
    """Releases everything: queues that nobody has closed, and what is under them."""


def attach(
    target: Target, choice: QueueChoice, depth: SupportsIndex, sqpoll: bool = False, readonly: bool = False
) -> Attachment:
    """Open a target: an emulator spec (``emu:zns?...``) or the path of an NVMe generic device, ``readonly`` its node only for
    reading.

    Raises UsageError where the target or the arguments are not usable, OSError where the kernel refuses.
    """
    if choice not in get_args(QueueChoice):
        raise UsageError(f"queue={choice!r}: choose one of {', '.join(get_args(QueueChoice))}")
    if not hasattr(depth, "__index__") or not 1 <= index(depth) <= DEPTH_MAX:
        raise UsageError(f"depth={depth!r}: a queue holds 1 to {DEPTH_MAX} commands")
    depth = index(depth)
    name = _name(target)
    if name.startswith("emu:"):
        if sqpoll:
            raise UsageError(
                f"sqpoll=True: {name} is served in this process, and no thread of the kernel's has to do with it"
            )
        return _attach_emulated(name, choice, depth)
    return _attach_device(find(Path(name)), choice, depth, bool(sqpoll), readonly=readonly)


@dataclass(frozen=True)
class ControllerAttachment:
    """A controller with its admin queue open; ``presence`` says whether it is there, ``close`` releases everything."""

    target: str
    admin: Queue
    presence: Presence
    owner: Path | None
    """The controller in sysfs, None of an emulated one."""
    close: Callable[[], None]


def attach_controller(target: Target) -> ControllerAttachment:
    """Open a controller: by the path of its character device or a namespace's, or an emulator spec. Raises as :func:`attach`."""
    name = _name(target)
    owner = None
    with ExitStack() as undo:
        if name.startswith("emu:"):
            device = Device(parse_spec(name))
            undo.callback(device.close)
            admin: Queue = EmulatedQueue(device, depth=ADMIN_DEPTH, admin=True)
            look: Presence = _present
        else:
            controller = find_controller(Path(name))
            name = str(controller)
            owner = controller_folder(controller)
            fd = _open(controller, readonly=True)  # the kernel makes no difference
            undo.callback(os.close, fd)
            admin = RingQueue(fd, lib.NVME_URING_CMD_ADMIN, kind="interrupt", depth=ADMIN_DEPTH)
            look = presence(fd)
        undo.callback(admin.close)
        return ControllerAttachment(name, admin, look, owner, undo.pop_all().close)


def _name(target: Target) -> str:
    name = os.fsdecode(target)
    if not name:
        raise UsageError("the target is an empty string: name a device such as /dev/ng0n1, or emu:nvm or emu:zns")
    if "\0" in name:
        raise UsageError(f"{name!r} is no path: it has a null character in it")
    return name


def _attach_emulated(spec: str, choice: QueueChoice, depth: int) -> Attachment:
    if choice not in ("auto", "emulated"):
        raise UsageError(f"queue={choice!r}: {spec} is served in this process, with queue='emulated' or 'auto'")
    with ExitStack() as undo:
        device = Device(parse_spec(spec))
        undo.callback(device.close)
        io = EmulatedQueue(device, depth=depth)
        undo.callback(io.close)
        admin = EmulatedQueue(device, depth=ADMIN_DEPTH, admin=True)
        undo.callback(admin.close)
        close = undo.pop_all().close
    return Attachment(
        target=spec,
        nsid=NSID,
        io=io,
        admin=admin,
        path=PathReport("emulated", depth),
        max_transfer_bytes=None,
        chunk_bytes=REGISTERED_MAX_BYTES,
        segments=None,
        no_metadata="emulated namespaces have none",
        device=None,
        zone_counters=device.zone_counters if device.spec.zoned else None,
        io_presence=_present,
        admin_presence=_present,
        close=close,
    )


def _attach_device(
    device: GenericDevice, choice: QueueChoice, depth: int, sqpoll: bool, *, readonly: bool
) -> Attachment:
    if choice == "emulated":
        raise UsageError(
            f"queue='emulated': {device.path} is a real device; an emulated one is opened as 'emu:zns' or 'emu:nvm'"
        )
    with ExitStack() as undo:
        fd = _open(device.path, readonly=readonly)
        undo.callback(os.close, fd)
        admin, admin_presence = _open_admin(device, fd, undo)
        io, why_not = _open_queue(device, fd, choice, depth, sqpoll)
        undo.callback(io.close)
        nsid = _nsid(fd, device.path)
        close = undo.pop_all().close

    max_transfer_bytes, chunk_bytes = _limits(device, io)
    return Attachment(
        target=str(device.path),
        nsid=nsid,
        io=io,
        admin=admin,
        path=PathReport(io.kind, io.depth, why_not, io.detour, sqpoll),
        max_transfer_bytes=max_transfer_bytes,
        chunk_bytes=chunk_bytes,
        segments=_segments(device),
        no_metadata=_no_metadata(device),
        device=device,
        zone_counters=None,
        io_presence=presence(fd),
        admin_presence=admin_presence,
        close=close,
    )


def _present() -> Literal["present"]:
    return "present"


def _open(path: Path, *, readonly: bool) -> int:
    try:
        return os.open(path, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
    except PermissionError as error:
        if readonly:
            why = "not allowed to open it for reading"
        elif os.access(path, os.R_OK, effective_ids=True):
            why = "not allowed to open it for writing: pass readonly=True to read"
        else:
            why = "not allowed to open it for reading and writing"
        remedy = f"run as root, or give this user the device node (setfacl -m u:{os.geteuid()}:rw {path})"
        raise PermissionError(error.errno, f"{why}; {remedy}", str(path)) from None


def _open_admin(device: GenericDevice, fd: int, undo: ExitStack) -> tuple[Queue, Presence]:
    """The queue of the controller's commands, a ring on its node or where this process may not have that, the namespace's; and
    what tells whether the device behind it is there."""
    try:
        # The kernel makes no difference here between a node open for reading or for writing.
        controller = os.open(device.controller, os.O_RDONLY | os.O_CLOEXEC)
    except (PermissionError, FileNotFoundError):
        return IoctlQueue(fd, depth=ADMIN_DEPTH), presence(fd)
    undo.callback(os.close, controller)
    admin = RingQueue(controller, lib.NVME_URING_CMD_ADMIN, kind="interrupt", depth=ADMIN_DEPTH)
    undo.callback(admin.close)
    return admin, presence(controller)


def _nsid(fd: int, path: Path) -> int:
    try:
        return fcntl.ioctl(fd, lib.NVME_IOCTL_ID)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, asking for its namespace identifier", str(path)) from None


def _limits(device: GenericDevice, io: Queue) -> tuple[int | None, int]:
    """Most data of one command, and the largest piece of memory that one registration may have."""
    max_hw_sectors_kb = device.queue_limit("max_hw_sectors_kb")
    mdts = None if max_hw_sectors_kb is None else max_hw_sectors_kb << 10
    if io.kind == "raw" and not isinstance(io, ProposedRawQueue):
        return mdts, REGISTERED_MAX_BYTES  # it has no segments
    segments = _segments(device)
    # A buffer that starts inside a page touches one page more than its length fills, and each may be a segment of its own.
    most = min((segments - 1) * PAGE_SIZE, mdts or REGISTERED_MAX_BYTES)
    if io.kind == "raw":
        return most, PAGE_SIZE
    # A power of two, so that no aligned block straddles two registrations.
    return most, min(1 << (segments * PAGE_SIZE).bit_length() - 1, REGISTERED_MAX_BYTES)


def _segments(device: GenericDevice) -> int:
    return device.queue_limit("max_segments") or SEGMENTS


def _no_metadata(device: GenericDevice) -> str:
    # Linux takes metadata along as a request's integrity data; where it shows none it refuses, or on 6.1 loses a tag.
    if device.integrity not in (None, "none"):
        return ""
    return f"Linux shows no integrity for {device.block_name} (sysfs, integrity/format): was it built without BLK_DEV_INTEGRITY?"


def _open_queue(
    device: GenericDevice, fd: int, choice: QueueChoice, depth: int, sqpoll: bool
) -> tuple[Queue, dict[str, str]]:
    """The queue that was asked for, or the best one with the reasons against those before it."""
    openers = {
        "raw": partial(_open_raw, sqpoll=sqpoll),
        "polled": partial(_open_polled, sqpoll=sqpoll),
        "interrupt": partial(_open_interrupt, sqpoll=sqpoll),
    }
    if choice != "auto":
        found = openers[choice](device, fd, depth)
        if isinstance(found, str):
            raise UsageError(f"queue={choice!r} is not to be had for {device.path}: {found}")
        return found, {}
    why_not: dict[str, str] = {}
    for kind, opener in openers.items():
        try:
            found = (why_auto_does_not_poll() if kind == "polled" else None) or opener(device, fd, depth)
        except OSError as error:
            if kind != "raw":
                raise
            found = str(error.strerror)
        if not isinstance(found, str):
            return found, why_not
        why_not[kind] = found
    raise AssertionError("the last of them opens or raises")


def _open_raw(device: GenericDevice, fd: int, depth: int, sqpoll: bool) -> Queue | str:
    """A raw queue, or why not. PermissionError without CAP_SYS_ADMIN."""
    reason = why_not_raw(device) or ("sqpoll=True is for the other queues" if sqpoll else None)
    if reason is not None:
        return reason
    # The size of the controller's queues, 0's based (drivers/nvme/host/pci.c): what is more would wait in a kernel worker.
    sqsize = device.controller_attribute("sqsize")
    try:
        return open_raw_queue(device, fd, depth=min(depth, int(sqsize or depth)))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return str(error.strerror)


def _open_polled(device: GenericDevice, fd: int, depth: int, sqpoll: bool) -> Queue | str:
    reason = why_not_polled(device)
    return reason or PolledQueue(fd, lib.NVME_URING_CMD_IO, depth=_requests(device, depth), sqpoll=sqpoll)


def _open_interrupt(device: GenericDevice, fd: int, depth: int, sqpoll: bool) -> Queue | str:
    return RingQueue(fd, lib.NVME_URING_CMD_IO, kind="interrupt", depth=_requests(device, depth), sqpoll=sqpoll)


def _requests(device: GenericDevice, depth: int) -> int:
    # More would wait in the kernel, where they hold resources, rather than here, where they can still be cancelled.
    return min(depth, device.queue_limit("nr_requests") or depth)
