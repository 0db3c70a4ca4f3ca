"""Opening a namespace or a controller: attach to the target, and ask it what it is."""

import os
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import SupportsIndex, cast

from aionvme.admin_commands import submit_admin
from aionvme.buffers import BufferPool
from aionvme.controller import Controller
from aionvme.driver.permission import Access
from aionvme.entering import Entering
from aionvme.errors import NvmeError
from aionvme.geometry import Geometry, block_bytes, max_transfer
from aionvme.guard import Guard
from aionvme.namespace import Namespace
from aionvme.nvme.identify import IdentifyNamespace
from aionvme.nvme.nvm import NLB_MAX
from aionvme.nvme.opcodes import CommandSetIdentifier
from aionvme.nvme.protection import ProtectionFormat
from aionvme.queues.attach import Attachment, QueueChoice, Target, attach, attach_controller
from aionvme.queues.base import Queue
from aionvme.queues.tracing import Recorder, TracingQueue
from aionvme.trace import PathName, save_trace, trace_file


def open_namespace(
    target: Target,
    *,
    queue: QueueChoice = "auto",
    depth: SupportsIndex = 64,
    sqpoll: bool = False,
    trace: PathName | None = None,
    readonly: bool = False,
    force: bool = False,
) -> AbstractAsyncContextManager[Namespace]:
    """Open a namespace for the running event loop, asyncio's or trio's; leaving the context closes it.

    ``target`` is a generic character device (``/dev/ng0n1``) or the spec of an emulated namespace: ``emu:nvm?size=64MiB`` or
    ``emu:zns?zones=16&zone_size=4MiB``, whose options the README lists with their units. ``queue`` names the
    path commands take, "auto" the best there is; ``depth`` is how many may be in flight, or as many as the device has room for.
    With ``sqpoll`` a thread of the kernel's submits the commands, and polls for a polled queue (IORING_SETUP_SQPOLL): submitting
    costs this process no system call, and the thread a processor of its own, until there has been nothing to do for 10 ms.
    ``trace`` names a file (.npy) that is written when the context is left, whatever the reason, with a row of
    :data:`aionvme.TRACE` for each I/O command; admin commands are not traced. A traced command costs some microseconds more, and
    those of arrays are submitted one by one.

    With ``readonly`` whatever may change something raises ReadOnlyError, and the device node need only be readable. Otherwise the
    use of the namespace's block device is looked at, once, now: where it or one of its partitions is mounted, swap space, part of
    another device, or held exclusively, the namespace opens, and whatever may change something raises NamespaceInUseError, which
    names the user. ``force`` allows it. What is rare and destroys much looks again: a deallocation, the reset of a zone, zone
    management of all zones at once, ``replay``, ``ZoneLog.create``, and admin commands such as Format NVM; and so does
    :meth:`Namespace.check_writable`.

    A user without CAP_SYS_ADMIN needs Linux 6.2 and permission on the namespace's node, the controller's is not needed; what the
    kernel keeps from such users (vendor specific commands, most admin commands) raises PermissionError, which names its rule.

    Leaving waits for the commands in flight, whatever the reason. Raises UsageError where target or arguments make no sense or
    the named queue cannot be had, OSError where the kernel refuses, NvmeError where the controller does not identify itself.
    """
    return _NamespaceOpening(target, queue, depth, sqpoll, trace, readonly, force)


def open_controller(
    target: Target, *, readonly: bool = False, force: bool = False
) -> AbstractAsyncContextManager[Controller]:
    """Open a controller for admin commands, for the running event loop; leaving the context closes it.

    ``target`` is the controller's character device (``/dev/nvme0``); or that of a namespace (``/dev/ng0n1``) or the spec of an
    emulated one, whose controller this is then. An open namespace has the same as ``ns.admin``.

    With ``readonly`` only Identify, Get Log Page, Get Features and Get LBA Status are taken. What can destroy data (Format NVM,
    Sanitize, Security Send, namespace and capacity management, vendor specific commands) raises NamespaceInUseError while the
    block device of any namespace of the NVM subsystem is in use, unless with ``force``.

    Leaving waits for the commands in flight. Raises as :func:`open_namespace`.
    """
    return _ControllerOpening(target, readonly, force)


def _use(function: str, name: str) -> str:
    return f"write `async with aionvme.{function}(...) as {name}:` and use {name} inside of it"


class _NamespaceOpening(Entering[Namespace]):
    def __init__(
        self,
        target: Target,
        queue: QueueChoice,
        depth: SupportsIndex,
        sqpoll: bool,
        trace: PathName | None,
        readonly: bool,
        force: bool,
    ) -> None:
        super().__init__(target, _use("open", "ns"))
        self._arguments = (target, queue, depth, sqpoll, readonly)
        self._trace = trace
        self._readonly = readonly
        self._force = force

    async def _enter(self) -> Namespace:
        recording = None if self._trace is None else _Recording(self._trace)
        attachment = attach(*self._arguments)
        if recording:
            self._undo.callback(recording.save)  # when all else has been closed
        self._undo.callback(attachment.close)
        target, device = attachment.target, attachment.device
        queue = recording.around(attachment.io) if recording else attachment.io
        io = self._drive(queue, target, attachment.io_presence, Access(readonly=self._readonly))
        admin = self._drive(
            attachment.admin, f"the controller of {target}", attachment.admin_presence, Access(admin=True)
        )
        guard = Guard(
            target,
            block_name=device.block_name if device else None,
            owner=device.owner if device else None,
            readonly=self._readonly,
            force=self._force,
        )
        controller = await Controller.ask(f"the controller of {target}", partial(submit_admin, admin, guard))
        geometry = await _geometry(controller, attachment, guard)
        pool = BufferPool(attachment.io.register, attachment.io.unregister, attachment.chunk_bytes)
        ns = Namespace(
            attachment.target, geometry, attachment.path, pool, io, admin, zone_counters=attachment.zone_counters
        )
        if ns.zoned:
            await ns.zones.refresh()
        if recording:
            recording.begin(geometry)
        return ns


class _ControllerOpening(Entering[Controller]):
    def __init__(self, target: Target, readonly: bool, force: bool) -> None:
        super().__init__(target, _use("open_controller", "controller"))
        self._readonly = readonly
        self._force = force

    async def _enter(self) -> Controller:
        attachment = attach_controller(self._named)
        self._undo.callback(attachment.close)
        driver = self._drive(attachment.admin, attachment.target, attachment.presence, Access(admin=True))
        guard = Guard(attachment.target, owner=attachment.owner, readonly=self._readonly, force=self._force)
        return await Controller.ask(attachment.target, partial(submit_admin, driver, guard))


class _Recording:
    """What a traced opening records, and where that goes."""

    def __init__(self, path: PathName) -> None:
        """Raises UsageError where no file can be made at ``path``."""
        self._file = trace_file(path)
        self._recorder = Recorder()
        self._pid = os.getpid()
        self._geometry: Geometry | None = None

    def around(self, queue: Queue) -> Queue:
        """The same queue, with what passes recorded."""
        return cast(Queue, TracingQueue(queue, self._recorder))

    def begin(self, geometry: Geometry) -> None:
        """The namespace is open: what was submitted before is nobody's business."""
        self._geometry = geometry
        self._recorder.begin()

    def save(self) -> None:
        """Write the file. In a forked child, which leaves the queue to its parent, the trace is its parent's, too."""
        geometry = self._geometry
        if geometry is not None and self._pid == os.getpid():
            zsze = geometry.zoned.zsze if geometry.zoned else 0
            save_trace(self._recorder.trace(geometry.block_bytes, zsze), self._file)


async def _geometry(controller: Controller, attachment: Attachment, guard: Guard) -> Geometry:
    nsid = attachment.nsid
    namespace = await controller.identify_namespace(nsid)
    protection = await _protection(controller, nsid, namespace)
    blocks = block_bytes(namespace, protection)
    transfer = append = max_transfer(controller.identify, attachment.max_transfer_bytes, blocks)
    zoned = None
    if await _command_set(controller, nsid) == CommandSetIdentifier.ZONED:
        zoned = await controller.identify_zoned_namespace(nsid)
        zasl = (await controller.identify_zoned_controller()).zasl_bytes() or append
        append = min(append, zasl, min(zoned.zsze, NLB_MAX) * blocks)
    append -= append % blocks
    return Geometry(
        nsid,
        controller.identify,
        namespace,
        zoned,
        transfer,
        append,
        guard,
        attachment.segments,
        protection,
        attachment.no_metadata,
    )


async def _protection(controller: Controller, nsid: int, namespace: IdentifyNamespace) -> ProtectionFormat | None:
    if ProtectionFormat.of(namespace.dps, namespace.ms) is None:
        return None
    try:
        format_ = (await controller.identify_nvm_namespace(nsid)).elbafs[namespace.flbas]
    except NvmeError:
        # A controller older than NVMe 2.0 has no other guards than those of 16 bits.
        return ProtectionFormat.of(namespace.dps, namespace.ms)
    return ProtectionFormat.of(namespace.dps, namespace.ms, format_.sts, format_.pif)


async def _command_set(controller: Controller, nsid: int) -> int | None:
    try:
        return (await controller.namespace_descriptors(nsid)).csi
    except NvmeError:
        return None  # a controller older than NVMe 1.3 has no such list, and no other command set
    except PermissionError:
        # Without CAP_SYS_ADMIN, Linux 6.2 and newer pass what Identify says of a namespace, but not this list (nvme_cmd_allowed
        # in drivers/nvme/host/ioctl.c). A namespace is zoned where it answers as one.
        try:
            await controller.identify_zoned_namespace(nsid)
        except (NvmeError, ValueError):
            return None
        return CommandSetIdentifier.ZONED
