"""Opening a namespace: attach to the target, ask it what it is, and close everything in the right order."""

import os
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, SupportsIndex, cast

import numpy as np
from numpy.typing import NDArray

from aionvme.buffers import BufferPool, span_of
from aionvme.driver.driver import Driver
from aionvme.errors import NvmeError, UsageError, nvme_error
from aionvme.geometry import Geometry, max_transfer
from aionvme.namespace import Namespace
from aionvme.nvme.admin import IDENTIFY_LEN_BYTES, identify
from aionvme.nvme.identify import Cns, IdentifyController, IdentifyNamespace, parse_namespace_descriptors
from aionvme.nvme.identify_zoned import IdentifyZonedController, IdentifyZonedNamespace
from aionvme.nvme.opcodes import CommandSetIdentifier
from aionvme.prepare import describe, prepare_admin
from aionvme.queues.attach import QueueChoice, Target, attach
from aionvme.queues.base import Queue
from aionvme.queues.tracing import Recorder, TracingQueue
from aionvme.trace import PathName, save_trace, trace_file


def open_namespace(
    target: Target, *, queue: QueueChoice = "auto", depth: SupportsIndex = 64, trace: PathName | None = None
) -> AbstractAsyncContextManager[Namespace]:
    """Open a namespace for the running event loop, asyncio's or trio's; leaving the context closes it.

    ``target`` is a generic character device (``/dev/ng0n1``) or the spec of an emulated namespace: ``emu:nvm?size=64MiB`` or
    ``emu:zns?zones=16&zone_size=4MiB``, whose options the README lists with their units. ``queue`` names the
    path commands take, "auto" the best there is; ``depth`` is how many may be in flight, or as many as the device has room for.
    ``trace`` names a file (.npy) that is written when the context is left, whatever the reason, with a row of
    :data:`aionvme.TRACE` for each I/O command; admin commands are not traced. A traced command costs some microseconds more, and
    those of arrays are submitted one by one.

    Leaving waits for the commands in flight, whatever the reason. Raises UsageError where target or arguments make no sense or
    the named queue cannot be had, OSError where the kernel refuses, NvmeError where the controller does not identify itself.
    """
    return _Opening(target, queue, depth, trace)


USE = "write `async with aionvme.open(...) as ns:` and use ns inside of it"


class _Opening(AbstractAsyncContextManager[Namespace]):
    """One opening of a target: a context to be entered once, and left on the loop that entered it."""

    def __init__(self, target: Target, queue: QueueChoice, depth: SupportsIndex, trace: PathName | None) -> None:
        self._arguments = (target, queue, depth)
        self._trace = trace
        self._entered = False
        self._drivers: list[Driver] = []
        self._undo = AsyncExitStack()

    if not TYPE_CHECKING:  # a type checker says this better, and would not if it saw these

        def __getattr__(self, name: str) -> None:
            raise AttributeError(f"no {name!r} before the namespace is open: {USE}")

        def __await__(self) -> None:
            raise TypeError(USE)

        def __enter__(self) -> None:
            raise TypeError(USE)

        def __exit__(self, *exception: object) -> None:
            """Never reached; with it, ``with`` gets as far as the explanation above."""

    async def __aenter__(self) -> Namespace:
        if self._entered:
            raise UsageError(f"{self._arguments[0]!s} is entered once for each call of open()")
        self._entered = True
        recording = None if self._trace is None else _Recording(self._trace)
        attachment = attach(*self._arguments)
        if recording:
            self._undo.callback(recording.save)  # when all else has been closed
        self._undo.callback(attachment.close)
        try:
            io = self._drive(recording.around(attachment.io) if recording else attachment.io, attachment.target)
            admin = self._drive(attachment.admin, f"the controller of {attachment.target}")
            geometry = await _identify(admin, attachment.target, attachment.nsid, attachment.max_transfer_bytes)
            pool = BufferPool(attachment.io.register, attachment.io.unregister, attachment.chunk_bytes)
            ns = Namespace(
                attachment.target, geometry, attachment.path, pool, io, admin, zone_counters=attachment.zone_counters
            )
            if ns.zoned:
                await ns.zones.refresh()
        except BaseException:
            await self._undo.aclose()
            raise
        if recording:
            recording.begin(geometry)
        return ns

    async def __aexit__(self, *exception: object) -> None:
        for driver in self._drivers:
            driver.check_closable()  # all or nothing: on another loop, nothing is closed
        await self._undo.aclose()

    def _drive(self, queue: Queue, name: str) -> Driver:
        driver = Driver(queue, name)
        self._drivers.append(driver)
        self._undo.push_async_callback(driver.aclose)
        return driver


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


async def _identify(admin: Driver, target: str, nsid: int, kernel_limit: int | None) -> Geometry:
    try:
        return await _geometry(admin, nsid, kernel_limit)
    except UsageError:
        raise
    except ValueError as error:  # an inactive namespace, or a structure that is none
        raise UsageError(f"{target} cannot be used: {error}") from None


async def _geometry(admin: Driver, nsid: int, kernel_limit: int | None) -> Geometry:
    controller = IdentifyController.parse(await _page(admin, Cns.CONTROLLER))
    namespace = IdentifyNamespace.parse(await _page(admin, Cns.NAMESPACE, nsid))
    block_bytes = namespace.lba_size + (namespace.ms if namespace.extended_lba else 0)
    transfer = append = max_transfer(controller, kernel_limit, block_bytes)
    zoned = None
    if await _command_set(admin, nsid) == CommandSetIdentifier.ZONED:
        csi = CommandSetIdentifier.ZONED
        zoned = IdentifyZonedNamespace.parse(await _page(admin, Cns.CSI_NAMESPACE, nsid, csi), namespace.flbas)
        limits = IdentifyZonedController.parse(await _page(admin, Cns.CSI_CONTROLLER, 0, csi))
        append = min(transfer, limits.zasl_bytes() or transfer)
    return Geometry(nsid, controller, namespace, zoned, transfer, append - append % block_bytes)


async def _command_set(admin: Driver, nsid: int) -> int | None:
    try:
        return parse_namespace_descriptors(await _page(admin, Cns.NAMESPACE_DESCRIPTORS, nsid)).csi
    except NvmeError:
        return None  # a controller older than NVMe 1.3 has no such list, and no other command set
    except PermissionError:
        # Without CAP_SYS_ADMIN, Linux 6.2 and newer pass what Identify says of a namespace, but not this list (nvme_cmd_allowed
        # in drivers/nvme/host/ioctl.c). A namespace is zoned where it answers as one.
        try:
            await _page(admin, Cns.CSI_NAMESPACE, nsid, CommandSetIdentifier.ZONED)
        except NvmeError:
            return None
        return CommandSetIdentifier.ZONED


async def _page(admin: Driver, cns: Cns, nsid: int = 0, csi: int = CommandSetIdentifier.NVM) -> NDArray[np.uint8]:
    page = np.zeros(IDENTIFY_LEN_BYTES, np.uint8)
    command = identify(cns, nsid=nsid, csi=csi)
    (completion,) = await admin.run([prepare_admin(command, span_of(page, writable=True))])
    if completion.status:
        raise nvme_error(completion.status, f"{describe(command, admin=True)} (CNS {cns:#04x})")
    return page
