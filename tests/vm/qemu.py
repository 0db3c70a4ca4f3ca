"""QEMU's command line."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .devices import Controller, quoted
from .errors import VmError
from .initramfs import BUSYBOX, BootFiles

QEMU = "qemu-system-x86_64"

_KVM_CREATE_VM = 0xAE01


@dataclass(frozen=True)
class Machine:
    """What is chosen for one run."""

    cpus: int
    polled_queues: int
    controller: Controller


@dataclass(frozen=True)
class Folders:
    """The host's folders that the guest gets to see, besides the root, and the console's log."""

    images: Path
    control: Path
    results: Path
    console: Path


def check_host() -> None:
    """Raise if a Debian package that this module needs is not installed."""
    missing = []
    if shutil.which(QEMU) is None:
        missing.append("qemu-system-x86")
    if not BUSYBOX.exists():
        missing.append("busybox-static")
    if missing:
        raise VmError(f"missing on this host: apt-get install {' '.join(missing)}")


def command_line(machine: Machine, boot: BootFiles, folders: Folders) -> list[str]:
    """Return the command that runs the machine, with the guest's output as its stdout."""
    kernel_arguments = [
        "console=ttyS0",
        # Any oops ends the run, at once.
        "oops=panic",
        "panic=-1",
        # init brings the others online, and says why.
        "maxcpus=1",
        # Emulated CPUs read one clock, the host's. Unless told so the kernel takes their TSCs for
        # unsynchronised, reads a slow timer from then on, and patches sched_clock() while it boots.
        "tsc=reliable",
        "mitigations=off",
        f"nvme.poll_queues={machine.polled_queues}",
        f'NODES="{" ".join(machine.controller.nodes)}"',
    ]
    accelerator = ["-accel", "kvm", "-cpu", "host"]
    if not _kvm_works():
        # Both CPUs in one thread: a kernel that patches its own code is safe then, and what runs in the guest, one process,
        # is no slower for it.
        accelerator = ["-accel", "tcg,thread=single", "-cpu", "max"]
    return [
        # QEMU must not outlive us, whatever ends us.
        *("setpriv", "--pdeathsig", "KILL"),
        *(QEMU, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-M", "q35", *accelerator, "-smp", str(machine.cpus), "-m", "2G"),
        *("-kernel", str(boot.kernel), "-initrd", str(boot.initramfs)),
        *("-append", " ".join(kernel_arguments)),
        *("-chardev", f"file,id=console,append=on,path={quoted(folders.console)}"),
        *("-serial", "chardev:console"),
        *("-chardev", "stdio,id=output,signal=off"),
        *("-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output"),
        *("-virtfs", _share("host", Path("/")) + ",readonly=on,multidevs=remap"),
        *("-virtfs", _share("control", folders.control)),
        *("-virtfs", _share("results", folders.results)),
        *machine.controller.arguments(folders.images),
    ]


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
