"""What of this machine concerns every target: the kernel, io_uring, limits, the driver."""

import ctypes
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from aionvme import devices
from aionvme.doctor.check import NO_RAW_REMEDY, POLL_REMEDY, RAW_REMEDY, Check
from aionvme.doctor.process import mapped_library
from aionvme.doctor.rings import rings
from aionvme.driver.fast import IN_C, pure_wanted
from aionvme.privileges import CAP_IPC_LOCK, capable

MEMLOCK_ENOUGH = 8 << 20
"""The kernel's own default for RLIMIT_MEMLOCK since 5.16."""


def machine() -> Iterator[Check]:
    """Look at all of it."""
    yield _kernel(os.uname().release)
    yield from rings()
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


def _memlock() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 10} KiB"
    if capable(CAP_IPC_LOCK):
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
    mapped = mapped_library("liburing")
    if mapped is None:
        return Check("liburing", "ok", "part of the extension module, version unknown")
    library = ctypes.CDLL(mapped)
    if hasattr(library, "io_uring_major_version"):  # 2.4 and newer
        version = f"{library.io_uring_major_version()}.{library.io_uring_minor_version()}"
    else:
        in_name = re.search(r"\d+\.\d+", Path(mapped).name)
        version = in_name[0] if in_name else "older than 2.4"
    return Check("liburing", "ok", f"{version} ({mapped})")


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
