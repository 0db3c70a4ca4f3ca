"""What aionvme needs of a machine and of a device, looked at one thing at a time, and what to do where it is missing.

Whatever can be tried is tried: a ring is set up, a device is opened and read. The reasons are those that opening gives.
"""

import ctypes
import errno
import os
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aionvme import devices
from aionvme._core import lib
from aionvme.devices import GenericDevice, attribute_text
from aionvme.driver.fast import IN_C, pure_wanted
from aionvme.errors import AionvmeError, UsageError
from aionvme.namespace import Namespace
from aionvme.nvme.command import NVME_URING_CMD
from aionvme.opening import open_namespace
from aionvme.queues.attach import PathReport
from aionvme.queues.polled import why_auto_does_not_poll, why_not_polled
from aionvme.queues.raw import ProposedRawQueue, raw_queues, why_not_raw
from aionvme.queues.ring import RingQueue

PROC = Path("/proc")

Verdict = Literal["ok", "warn", "fail", "absent"]
"""warn: it works, and could work better. absent: it is not there, and nothing is broken by that."""


MEMLOCK_ENOUGH = 8 << 20
"""The kernel's own default for RLIMIT_MEMLOCK since 5.16."""

CAP_IPC_LOCK = 14
CAP_SYS_ADMIN = 21

POLL_REMEDY = (
    "put 'options nvme poll_queues=2' into /etc/modprobe.d/nvme.conf and load the driver again, or boot with "
    "nvme.poll_queues=2; over fabrics: nvme connect --nr-poll-queues=2"
)
NO_RAW_REMEDY = "none: polling is the best there is elsewhere; Linux 6.1 can be patched with aionvme's _native/kernel"
RAW_REMEDY = (
    "put 'options nvme raw_queues=1' into /etc/modprobe.d/nvme.conf and load the driver again, or boot with "
    "nvme.raw_queues=1"
)
NAMESPACES_REMEDY = "`aionvme list` shows the namespaces there are; 'emu:zns' and 'emu:nvm' need no device"
FILTER_REMEDY = (
    "have the filter allow io_uring_setup, io_uring_enter and io_uring_register (docker, podman: --security-opt "
    "seccomp=PROFILE)"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: the verdict, what was found and, where that is not ok, what to do about it."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class TargetDiagnosis:
    """What was found out about one target; ``queue`` is the path that commands take, None where it does not open."""

    target: str
    checks: tuple[Check, ...]
    queue: PathReport | None


@dataclass(frozen=True)
class Diagnosis:
    """The checks of the machine, and those of each target."""

    machine: tuple[Check, ...]
    targets: tuple[TargetDiagnosis, ...]

    @property
    def failed(self) -> int:
        """How many checks failed."""
        checks = [*self.machine, *(check for target in self.targets for check in target.checks)]
        return sum(check.verdict == "fail" for check in checks)


async def diagnose(target: str | Path | None = None) -> Diagnosis:
    """Look at this machine and at ``target``, or where that is None at every namespace there is.

    A namespace is opened and its first block read; nothing is written. Never raises for what it finds.
    """
    targets = [device.path for device in devices.generic_devices()] if target is None else [target]
    return Diagnosis(tuple(_machine()), tuple([await _diagnose_target(os.fspath(name)) for name in targets]))


def one_line(error: Exception) -> str:
    """An exception as one line for people: what an OSError is about comes first, its errno by name last."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    subject = f"{error.filename}: " if error.filename is not None else ""
    return f"{subject}{error.strerror} [{errno.errorcode.get(error.errno, error.errno)}]"


def _machine() -> Iterator[Check]:
    yield _kernel(os.uname().release)
    yield from _io_uring()
    yield _memlock()
    yield _liburing()
    yield _hot_path()
    yield from _driver()
    found = ", ".join(str(device.path) for device in devices.generic_devices())
    if found:
        yield Check("namespaces", "ok", found)
    else:
        yield Check(
            "namespaces", "absent", "no /dev/ngXnY on this machine", "none is needed for 'emu:zns' and 'emu:nvm'"
        )


def _kernel(release: str) -> Check:
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    brings = {
        (5, 19): "passthrough (5.19)",
        (6, 1): "polled passthrough and DEFER_TASKRUN (6.1)",
        (6, 2): "passthrough without root (6.2)",
    }
    has = [what for since, what in brings.items() if version >= since]
    lacks = [what for since, what in brings.items() if version < since]
    found = f"Linux {release}: {', '.join(has) or 'older than any passthrough'}"
    if not lacks:
        return Check("kernel", "ok", found)
    # Distributions carry features back to older versions: what the ring says counts for more than the number.
    return Check("kernel", "warn", found, f"a newer kernel brings {', '.join(lacks)}; some distributions carry it back")


def _io_uring() -> Iterator[Check]:
    try:
        _try_ring()
    except OSError as error:
        if error.errno == errno.EINVAL:
            yield Check("io_uring", "ok", f"there is one; {_sysctl()}")
            yield Check("big entries", "fail", one_line(error), "run Linux 5.19 or newer")
        else:
            yield Check("io_uring", "fail", one_line(error), _io_uring_remedy(error.errno))
            yield Check("big entries", "absent", "not tried without io_uring", "first io_uring")
        yield Check("polling", "absent", "not tried without such a ring", "first io_uring and its big entries")
        return
    yield Check("io_uring", "ok", f"a ring was set up and entered; {_sysctl()}")
    yield Check("big entries", "ok", "128-byte submissions, 32-byte completions")
    if RingQueue.polling_supported():
        yield Check("polling", "ok", "IOPOLL ring with DEFER_TASKRUN")
    else:
        yield Check("polling", "warn", "polled passthrough needs Linux 6.1", "run Linux 6.1 or newer")


def _try_ring() -> None:
    """Set up a ring just as a device's and enter it. /dev/null takes passthrough commands since 6.1, and does nothing."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        queue = RingQueue(fd, lib.NVME_URING_CMD_IO, kind="interrupt", depth=1)
        try:
            queue.stage(0, bytes(NVME_URING_CMD.size), -1)
            queue.tick(1)
        finally:
            queue.close()
    finally:
        os.close(fd)


def _io_uring_disabled() -> str | None:
    return attribute_text(PROC / "sys/kernel/io_uring_disabled")


def _sysctl() -> str:
    disabled = _io_uring_disabled()
    if disabled is None:
        return "this kernel has no sysctl kernel.io_uring_disabled"
    return f"kernel.io_uring_disabled is {disabled}{', for the privileged only' if disabled == '1' else ''}"


def _io_uring_remedy(number: int | None) -> str:
    disabled, group = _io_uring_disabled(), attribute_text(PROC / "sys/kernel/io_uring_group")
    if number == errno.EPERM and disabled == "2":
        return f"{_sysctl()}, off for everybody: sysctl -w kernel.io_uring_disabled=0"
    if number == errno.EPERM and disabled == "1" and not _capable(CAP_SYS_ADMIN) and not _in_group(group):
        join = "name a group in kernel.io_uring_group" if group in (None, "-1") else f"join the group with id {group}"
        return f"{_sysctl()} (CAP_SYS_ADMIN): {join}, or sysctl -w kernel.io_uring_disabled=0"
    if number in (errno.EPERM, errno.ENOSYS) and _status("Seccomp") == "2":
        return f"{_sysctl()}, and this process runs under a seccomp filter, so it is most likely that: {FILTER_REMEDY}"
    if number in (errno.EPERM, errno.EACCES):
        return f"{_sysctl()}, and no seccomp filter is at work: look for a security module's refusal in the kernel log"
    if number == errno.ENOSYS:
        return "run a kernel built with CONFIG_IO_URING=y"
    return "lift that limit for this process"


def _in_group(group: str | None) -> bool:
    return group is not None and group.isdigit() and int(group) in (os.getegid(), *os.getgroups())


def _status(key: str) -> str | None:
    """A line of this process's status: Seccomp is 2 under a filter."""
    match = re.search(rf"^{key}:\s*(\S+)", attribute_text(PROC / "self/status") or "", re.MULTILINE)
    return match and match[1]


def _capable(capability: int) -> bool:
    return bool(int(_status("CapEff") or "0", 16) >> capability & 1)


def _memlock() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 10} KiB"
    if _capable(CAP_IPC_LOCK):
        return Check("memlock", "ok", f"RLIMIT_MEMLOCK is {limit}, and CAP_IPC_LOCK lifts it")
    if soft == resource.RLIM_INFINITY or soft >= MEMLOCK_ENOUGH:
        return Check("memlock", "ok", f"RLIMIT_MEMLOCK is {limit}; registered buffers count against it")
    return Check(
        "memlock",
        "warn",
        f"RLIMIT_MEMLOCK is {limit}, without CAP_IPC_LOCK: ns.alloc() soon gives buffers that are not registered, and a "
        "kernel before 5.12 may refuse the ring",
        "raise it: ulimit -l, LimitMEMLOCK= of a systemd unit, memlock in /etc/security/limits.conf",
    )


def _liburing() -> Check:
    mapped = re.findall(r"\S*/liburing[^/\s]*$", attribute_text(PROC / "self/maps") or "", re.MULTILINE)
    if not mapped:
        return Check("liburing", "ok", "part of the extension module, version unknown")
    library = ctypes.CDLL(mapped[0])
    if hasattr(library, "io_uring_major_version"):  # 2.4 and newer
        version = f"{library.io_uring_major_version()}.{library.io_uring_minor_version()}"
    else:
        in_name = re.search(r"\d+\.\d+", Path(mapped[0]).name)
        version = in_name[0] if in_name else "older than 2.4"
    return Check("liburing", "ok", f"{version} ({mapped[0]})")


def _hot_path() -> Check:
    if IN_C:
        return Check("hot path", "ok", "in C")
    why = "as AIONVME_PURE asks" if pure_wanted() else "the extension in C was not built"
    return Check(
        "hot path",
        "warn",
        f"in pure Python, {why}: each await costs some five times as much",
        "unset AIONVME_PURE"
        if pure_wanted()
        else "install aionvme again, where there is a C compiler, and look at what pip says",
    )


def _driver() -> Iterator[Check]:
    if any((devices.SYSFS / "module" / name).exists() for name in ("nvme", "nvme_core")):
        yield Check("nvme driver", "ok", "loaded")
    else:
        yield Check("nvme driver", "absent", "not loaded", "modprobe nvme, where there is a device for it")
    poll_queues = devices.driver_parameter("poll_queues")
    if poll_queues:
        yield Check("poll queues", "ok", f"poll_queues is {poll_queues}")
    elif poll_queues == 0:
        yield Check("poll queues", "warn", "poll_queues is 0: commands are interrupt driven", POLL_REMEDY)
    else:
        yield Check("poll queues", "absent", "no parameter poll_queues", "it comes with the driver of PCI devices")
    queues = devices.driver_parameter("raw_queues")
    if queues is None:
        yield Check("raw queues", "absent", "no parameter raw_queues", NO_RAW_REMEDY)
    elif queues:
        yield Check("raw queues", "ok", f"raw_queues is {queues}")
    else:
        yield Check("raw queues", "warn", "raw_queues is 0: no queue is kept from the block layer", RAW_REMEDY)


async def _diagnose_target(target: str) -> TargetDiagnosis:
    checks: list[Check] = []
    if not target.startswith("emu:"):
        try:
            device = _find(target)
        except (UsageError, OSError) as error:
            return TargetDiagnosis(target, (Check("device", "fail", one_line(error), NAMESPACES_REMEDY),), None)
        checks += [_node("namespace node", device.path), _node("controller node", device.controller)]
        checks += [_limits(device), _raw(device), _polled(device)]
    queue = None
    try:
        async with open_namespace(target) as ns:
            queue = ns.queue
            checks.append(Check("open", "ok", _identity(ns)))
            checks.append(Check("queue", "ok", f"auto takes {queue.kind}, {queue.depth} commands deep"))
            checks.append(await _read(ns))
    except (AionvmeError, OSError, ValueError) as error:
        broken = any(check.verdict == "fail" for check in checks)
        remedy = "mend what failed above first" if broken else NAMESPACES_REMEDY
        checks.append(Check("open", "fail", one_line(error), remedy))
    return TargetDiagnosis(target, tuple(checks), queue)


def _find(target: str) -> GenericDevice:
    # A namespace that the kernel has may lack its node in /dev: that is to be told from one that is not there at all.
    known = {str(device.path): device for device in devices.generic_devices()}
    return known.get(target) or devices.find(Path(target))


def _node(name: str, path: Path) -> Check:
    try:
        status = path.stat()
    except OSError as error:
        remedy = "the kernel has the device: let udev make its node, or pass it to this container (--device)"
        return Check(name, "fail", one_line(error), remedy)
    may = [verb for verb, mode in (("read", os.R_OK), ("write", os.W_OK)) if os.access(path, mode, effective_ids=True)]
    if len(may) == 2:
        return Check(name, "ok", f"{path}: this user may read and write it")
    found = f"{path}: uid {os.geteuid()} may {may[0] + ' only' if may else 'neither read nor write'}"
    owner = f"it belongs to uid {status.st_uid}, gid {status.st_gid}, mode {status.st_mode & 0o777:04o}"
    remedy = f"run as root, or give this user the device node: setfacl -m u:{os.geteuid()}:rw {path}"
    return Check(name, "fail", f"{found}; {owner}", remedy)


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
        return Check("raw queue", "fail", one_line(error), "mend io_uring first")
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
    if not _capable(CAP_SYS_ADMIN):
        return Check("raw queue", "warn", f"{found}, but taking one needs CAP_SYS_ADMIN", "run as root")
    return Check("raw queue", "ok", found)


def _polled(device: GenericDevice) -> Check:
    try:
        reason = why_not_polled(device)
    except OSError as error:
        return Check("polled queue", "fail", one_line(error), "mend io_uring first")
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


async def _read(ns: Namespace) -> Check:
    try:
        await ns.read(0, 1)
    except AionvmeError as error:
        return Check("read", "warn", one_line(error), "the path works: this block or this format cannot be read")
    except OSError as error:
        return Check("read", "fail", one_line(error), "passthrough of I/O commands does not work for this user")
    return Check("read", "ok", "LBA 0 was read")
