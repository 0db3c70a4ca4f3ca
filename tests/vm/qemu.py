"""QEMU's command line."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .devices import Controller
from .emulator import Emulator
from .errors import VmError
from .faults import PLUGGABLE, quoted
from .initramfs import BUSYBOX
from .kernel import BootFiles

_KVM_CREATE_VM = 0xAE01


@dataclass(frozen=True)
class Machine:
    """What is chosen for one run."""

    cpus: int
    polled_queues: int
    raw_queues: int | None
    icount: bool
    controllers: tuple[Controller, ...]
    emulator: Emulator


@dataclass(frozen=True)
class Folders:
    """The host's folders that the guest gets to see, besides the root, and the console's log."""

    images: Path
    control: Path
    results: Path
    console: Path


def check_host() -> None:
    """Raise if a Debian package that this module needs is not installed."""
    if not BUSYBOX.exists():
        raise VmError("missing on this host: apt-get install busybox-static")


def command_line(machine: Machine, boot: BootFiles, folders: Folders) -> list[str]:
    """Return the command that runs the machine, with the guest's output as its stdout."""
    return [
        # QEMU must not outlive us, whatever ends us.
        *("setpriv", "--pdeathsig", "KILL"),
        str(machine.emulator.program),
        *[word for folder in machine.emulator.data for word in ("-L", str(folder))],
        *("-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-M", "q35", *_accelerator(machine, boot), "-smp", str(machine.cpus), "-m", "2G"),
        *("-kernel", str(boot.image), "-initrd", str(boot.initramfs)),
        *("-append", " ".join(_kernel_arguments(machine, boot))),
        *("-chardev", f"file,id=console,append=on,path={quoted(folders.console)}"),
        *("-serial", "chardev:console"),
        *("-chardev", "stdio,id=output,signal=off"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output"),
        # A line to the monitor for what runs in the guest, through a socket whose other end is QEMU as well.
        *("-chardev", f"socket,id=monitor,server=on,wait=off,path={quoted(folders.control / 'monitor')}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=line,path={quoted(folders.control / 'monitor')}"),
        *("-device", "virtserialport,chardev=line,name=monitor"),
        *("-virtfs", _share("host", Path("/")) + ",readonly=on,multidevs=remap"),
        *("-virtfs", _share("control", folders.control)),
        *("-virtfs", _share("results", folders.results)),
        *[word for controller in machine.controllers for word in controller.arguments(folders.images)],
        *PLUGGABLE.arguments(folders.images),
    ]


def _kernel_arguments(machine: Machine, boot: BootFiles) -> Iterator[str]:
    yield "console=ttyS0"
    # Any oops ends the run, at once.
    yield "oops=panic"
    yield "panic=-1"
    # Emulated CPUs read one clock, the host's. Unless told so the kernel takes their TSCs for
    # unsynchronised, reads a slow timer from then on, and patches sched_clock() while it boots.
    yield "tsc=reliable"
    yield "mitigations=off"
    if machine.icount or not boot.own:
        # init brings the others online, and says why. Where instructions are counted a kernel that is starting up waits
        # for its second CPU for ever; once started it does not.
        yield "maxcpus=1"
    yield f"nvme.poll_queues={machine.polled_queues}"
    if machine.raw_queues is not None:
        yield f"nvme.raw_queues={machine.raw_queues}"
    yield f"NAMESPACES={1 + sum(len(controller.namespaces) for controller in machine.controllers)}"


def _accelerator(machine: Machine, boot: BootFiles) -> list[str]:
    if machine.icount:
        # The guest's clock counts instructions, a nanosecond each, whatever else the host is doing meanwhile.
        return ["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0"]
    if _kvm_works():
        return ["-accel", "kvm", "-cpu", "host"]
    # With its CPUs in one thread a kernel that patches its own code is safe, and what the API's tests run in it, one
    # process, is no slower for that. Ours does not, and has real parallelism, which its queues are to be tested with.
    return ["-accel", f"tcg,thread={'multi' if boot.own else 'single'}", "-cpu", "max"]


def _share(tag: str, folder: Path) -> str:
    return f"local,mount_tag={tag},security_model=none,path={quoted(folder)}"


def _kvm_works() -> bool:
    """Tell whether KVM can run a kernel here at native speed.

    Without the CPU's support the device may exist and even create machines, which then hang.
    """
    if re.search(r"\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text()) is None:
        return False
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
    except OSError:
        return False
    finally:
        os.close(kvm)
    return True
