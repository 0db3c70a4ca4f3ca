"""What concerns one target: its nodes, its limits, the paths its commands can take, and whether it can be opened and read.

Whatever can be tried is tried. The reasons are those that opening gives.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aionvme import devices
from aionvme.devices import GenericDevice
from aionvme.doctor.check import NO_RAW_REMEDY, POLL_REMEDY, RAW_REMEDY, Check, TargetDiagnosis, one_line
from aionvme.doctor.nodes import node
from aionvme.errors import AionvmeError, UsageError
from aionvme.in_use import users_of
from aionvme.namespace import Namespace
from aionvme.opening import open_namespace
from aionvme.privileges import CAP_SYS_ADMIN, capable
from aionvme.queues.polled import why_auto_does_not_poll, why_not_polled
from aionvme.queues.raw import ProposedRawQueue, raw_queues, why_not_raw

NAMESPACES_REMEDY = "`aionvme list` shows the namespaces there are; 'emu:zns' and 'emu:nvm' need no device"


async def diagnose_target(target: str, broken: Sequence[str]) -> TargetDiagnosis:
    """Look at a target; ``broken`` are the machine's checks that failed."""
    checks: list[Check] = []
    device = None
    if not target.startswith("emu:"):
        try:
            device = _find(target)
        except (UsageError, OSError) as error:
            return TargetDiagnosis(target, (Check("device", "fail", one_line(error), NAMESPACES_REMEDY),), None)
        checks += before_opening(device)
        broken = [*broken, *(check.name for check in checks if check.verdict == "fail")]
    queue = None
    try:
        async with open_namespace(target, readonly=True) as ns:
            queue = ns.queue
            # It opens, so that what is wrong with a node is in the way of some commands only.
            checks = [replace(check, verdict="warn") if check.verdict == "fail" else check for check in checks]
            checks.append(Check("open", "ok", _identity(ns)))
            if device is not None:
                checks += [_privileges(None), transfers(device, ns), metadata(device, ns)]
            checks.append(Check("queue", "ok", f"auto takes {queue.kind}, {queue.depth} commands deep"))
            flaw = next((check.name for check in checks if check.name == "metadata" and check.verdict != "ok"), None)
            checks.append(await _read(ns, flaw))
    except (AionvmeError, OSError, ValueError) as error:
        checks += _not_open(error, broken if device is not None else ())
    return TargetDiagnosis(target, tuple(checks), queue)


def before_opening(device: GenericDevice) -> Iterator[Check]:
    """What can be told of a device without opening it as a namespace."""
    yield node("namespace node", device.path)
    yield node("controller node", device.controller)
    if device.paths:
        yield paths(device)
    yield in_use(device)
    yield _limits(device)
    yield _raw(device)
    yield _polled(device)


def _not_open(error: Exception, broken: Sequence[str]) -> Iterator[Check]:
    if broken:
        yield Check("open", "absent", one_line(error), f"first {', '.join(broken)}")
        return
    refused = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM)
    if refused and not capable(CAP_SYS_ADMIN):
        yield _privileges(error)
        yield Check("open", "absent", "not without privileges", "first privileges")
        return
    yield Check("open", "fail", one_line(error), NAMESPACES_REMEDY)


def _privileges(refusal: Exception | None) -> Check:
    if refusal is not None:
        since = "Linux 6.2 lets other users pass commands, if they may write to the nodes"
        if devices.kernel_version() >= (6, 2):
            since = "a security module's refusal would be in the kernel log"
        remedy = f"run as root, or with CAP_SYS_ADMIN; {since}"
        return Check("privileges", "fail", f"this user's commands are refused: {one_line(refusal)}", remedy)
    if capable(CAP_SYS_ADMIN):
        return Check("privileges", "ok", "CAP_SYS_ADMIN: every command")
    found = "without CAP_SYS_ADMIN: I/O commands and Identify, but no other admin commands, and none of a vendor's"
    return Check("privileges", "warn", found, "run as root for log pages, features and the like")


def paths(device: GenericDevice) -> Check:
    """Multipath: whether each of the controllers that lead to the namespace takes commands."""
    found = "; ".join(
        f"{path.name} {f'({path.address}) ' if path.address else ''}{path.state}" for path in device.paths
    )
    dead = [path.name for path in device.paths if path.state != "live"]
    if not dead:
        return Check("paths", "ok", f"{found}; admin commands go to {device.controller.name}")
    remedy = (
        f"the kernel log says why {' and '.join(dead)} does not answer; over fabrics look at the network and the target"
    )
    return Check("paths", "fail" if len(dead) == len(device.paths) else "warn", found, remedy)


def in_use(device: GenericDevice) -> Check:
    """Whether something uses the namespace's block device, behind whose back passthrough would write."""
    users = users_of(device.block_name)
    if not users:
        return Check("in use", "ok", f"nothing is seen to use /dev/{device.block_name}")
    remedy = "it opens for reading; to write, end that use first, or pass force=True (--force) to write all the same"
    return Check("in use", "warn", "; ".join(users), remedy)


def transfers(device: GenericDevice, ns: Namespace) -> Check:
    """The most that one command may move, and whether it is the kernel that sets this limit."""
    most = f"at most {ns.max_transfer_bytes >> 10} KiB a command"
    mdts, kernel_kb = ns.controller.mdts_bytes(), device.queue_limit("max_hw_sectors_kb")
    controller = "any length" if mdts is None else f"{mdts >> 10} KiB (MDTS)"
    if kernel_kb is None:
        return Check("transfers", "ok", f"{most}; the controller takes {controller}")
    segments = device.queue_limit("max_segments")
    scattered = "" if segments is None else f", of {segments} pages where they are scattered"
    found = (
        f"{most}; the controller takes {controller}, the kernel passes {kernel_kb} KiB (max_hw_sectors_kb){scattered}"
    )
    if mdts is None or kernel_kb << 10 >= mdts:
        return Check("transfers", "ok", found)
    remedy = "keep submit(), appends and arrays of commands that short; read() and write() are split by themselves"
    return Check("transfers", "warn", found, remedy)


def metadata(device: GenericDevice, ns: Namespace) -> Check:
    """Whether the namespace's metadata can pass the kernel."""
    ms = ns.identify.ms
    if not ms:
        return Check("metadata", "ok", "the format has none")
    if ns.identify.extended_lba:
        found = f"{ms} bytes follow each block in the same buffer: {ns.lba_size + ms} bytes a block"
        return Check("metadata", "ok", f"{found}; {device.block_name} is empty, for the block layer cannot do this")
    profile = device.block_attribute("integrity/format")
    if profile not in (None, "none"):
        return Check("metadata", "ok", f"{ms} bytes a block in a buffer of their own; integrity profile {profile}")
    return Check(
        "metadata",
        "warn",
        f"{ms} bytes a block in a buffer of their own, and {device.block_name} has no integrity profile: the kernel passes no "
        "metadata",
        "run a kernel with CONFIG_BLK_DEV_INTEGRITY, or format the namespace without metadata or with extended blocks "
        "(nvme format --lbaf, --ms=1)",
    )


def _find(target: str) -> GenericDevice:
    # A namespace that the kernel has may lack its node in /dev: that is to be told from one that is not there at all.
    known = {str(device.path): device for device in devices.generic_devices()}
    return known.get(target) or devices.find(Path(target))


def _limits(device: GenericDevice) -> Check:
    names = ("max_hw_sectors_kb", "max_segments", "nr_requests")
    limits = {name: limit for name in names if (limit := device.queue_limit(name)) is not None}
    found = ", ".join(f"{name} {limit}" for name, limit in limits.items())
    if not limits:
        remedy = f"none needed: it happens where {device.block_name} is hidden; the controller's own limits hold"
        return Check("limits", "absent", f"sysfs shows no queue of {device.block_name}", remedy)
    return Check("limits", "ok", found)


def _raw(device: GenericDevice) -> Check:
    try:
        reason = why_not_raw(device)
    except OSError as error:
        return Check("raw queue", "absent", one_line(error), "first io_uring")
    if reason is not None and devices.driver_parameter("raw_queues") is None:
        return Check("raw queue", "absent", reason, NO_RAW_REMEDY)
    if reason is not None:
        return Check("raw queue", "warn", reason, RAW_REMEDY)
    numbers = raw_queues(device)
    if numbers is None:
        remedy = "better: Linux 6.1 with the patches in aionvme's _native/kernel"
        return Check("raw queue", "warn", f"as the first proposal has them: {ProposedRawQueue.detour}", remedy)
    found = f"{numbers[1]} of {numbers[0]} free on {device.controller}"
    if not numbers[1]:
        return Check("raw queue", "warn", found, "end a program that has one, or load the driver with more raw_queues")
    if not capable(CAP_SYS_ADMIN):
        return Check("raw queue", "warn", f"{found}, but taking one needs CAP_SYS_ADMIN", "run as root")
    return Check("raw queue", "ok", found)


def _polled(device: GenericDevice) -> Check:
    try:
        reason = why_not_polled(device)
    except OSError as error:
        return Check("polled queue", "absent", one_line(error), "first io_uring")
    if reason is not None:
        return Check("polled queue", "warn", reason, POLL_REMEDY)
    found = f"io_poll of {device.block_name} is 1"
    reservation = why_auto_does_not_poll()
    if reservation is not None:
        return Check("polled queue", "warn", f"{found}, but {reservation}", "run Linux 6.5 or newer")
    return Check("polled queue", "ok", found)


def _identity(ns: Namespace) -> str:
    kind = f"{ns.nr_zones} zones of {ns.zsze} blocks" if ns.zoned else "conventional"
    most = f"at most {ns.max_transfer_bytes >> 10} KiB a command"
    return f"{ns.controller.mn}: {ns.nsze} blocks of {ns.lba_size} bytes, {kind}, {most}"


async def _read(ns: Namespace, flaw: str | None) -> Check:
    """``flaw`` is a check that says why the library may refuse to read, None where there is no such thing."""
    try:
        await ns.read(0, 1)
    except AionvmeError as error:
        if flaw is not None and isinstance(error, UsageError):
            return Check("read", "absent", one_line(error), f"first {flaw}")
        return Check("read", "warn", one_line(error), "the path works: this block or this format cannot be read")
    except OSError as error:
        return Check("read", "fail", one_line(error), "passthrough of I/O commands does not work for this user")
    return Check("read", "ok", "LBA 0 was read")
