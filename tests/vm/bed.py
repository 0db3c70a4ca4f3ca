"""Boots the guest and runs a command in it."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from .cache import PROJECT, cache_root
from .console import complaint, new_log, oopsed
from .devices import CONTROLLERS, FDP
from .emulator import hosts, newer
from .errors import BootOopsError, VmError
from .kernel import boot_files
from .qemu import Folders, Machine, check_host, command_line

# A boot takes a few seconds; a machine busy with other things may need more.
BOOT_TIMEOUT = 120.0

_GUEST_RUN = Path("/run")
# Folders that the guest's own file systems hide.
_HIDDEN = (Path("/dev"), Path("/proc"), _GUEST_RUN, Path("/sys"))
# Of each controller, unless said otherwise, if the kernel knows them.
_RAW_QUEUES = 2
# QEMU gets its memory zeroed. Its Copy, of 7.2 to 10.0 at least, ends one that was refused by reading statistics that it has not
# filled in (nvme_copy_done in hw/nvme/ctrl.c), and aborts where something else was there before (block/accounting.c). What
# is freed stays with the process, since every page given back would have to be zeroed by the kernel as well.
_ZEROED = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.perturb=255"
    ":glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=134217728"
}


def run_in_vm(
    command: Sequence[str],
    *,
    kernel: str = "6.1",
    cpus: int = 2,
    polled_queues: int = 2,
    raw_queues: int | None = None,
    icount: bool = False,
    newer_qemu: bool = False,
    timeout: float = 900.0,
    output: BinaryIO | None = None,
) -> int:
    """Run ``command`` in a guest, in the project root, and return its exit code.

    What it prints goes to ``output`` (stdout by default) while it runs.  ``kernel`` is a series of Debian's, "raw", or
    the path of a bzImage (`kernel.boot_files`).  With ``icount`` the guest's clock counts instructions, with ``newer_qemu`` the
    controllers of kernel 6.1 are those of a QEMU that has Flexible Data Placement, as those of later kernels are.  ``timeout``,
    in seconds, is for the run as a whole, but not for fetching or building the kernel.

    Raises `VmError` if the machine fails rather than the command, also if its kernel warned of something.
    """
    check_host()
    if polled_queues > cpus:
        raise VmError(f"{polled_queues} polled queues need as many CPUs, says the nvme driver")
    _check_visible()
    root = cache_root()
    boot = boot_files(kernel, root)
    if boot.own and raw_queues is None:
        raw_queues = _RAW_QUEUES
    if not boot.own and raw_queues is not None:
        raise VmError("Debian's kernels have no raw queues: choose kernel raw")
    results = Path(os.environ.get("AIONVME_VM_RESULTS") or root / "results").absolute()
    results.mkdir(parents=True, exist_ok=True)
    # The oldest kernels with an old QEMU, the newer ones with one that can do more.
    emulator = newer(root) if boot.new or newer_qemu else hosts()
    controllers = (*CONTROLLERS, FDP) if emulator.has_fdp else CONTROLLERS
    machine = Machine(cpus, polled_queues, raw_queues, icount, controllers, emulator)

    def attempt() -> int:
        with TemporaryDirectory(prefix="aionvme-vm-") as scratch:
            images, control = Path(scratch, "images"), Path(scratch, "control")
            images.mkdir()
            control.mkdir()
            (control / "command").write_text(_script(command))
            folders = Folders(images, control, results, new_log(root))
            arguments = command_line(machine, boot, folders)
            status = _run(arguments, folders, timeout, output or sys.stdout.buffer)
        folders.console.unlink()
        return status

    try:
        return attempt()
    except BootOopsError as error:
        if boot.own:
            raise  # no fault of the emulator's
        print(f"{error} (see {error.console}): booting again, once", file=sys.stderr, flush=True)
        return attempt()


def _check_visible() -> None:
    """Raise if the guest could not see the project or the Python in use."""
    for path in (PROJECT, Path(sys.prefix), Path(sys.base_prefix)):
        for hidden in _HIDDEN:
            if path.resolve().is_relative_to(hidden):
                raise VmError(f"{path} is below {hidden}, where the guest has its own files")


def _script(command: Sequence[str]) -> str:
    """Return the shell script that the guest's init runs in the host's root."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIONVME_")}
    for name in ("PATH", "VIRTUAL_ENV"):
        if name in os.environ:
            environment[name] = os.environ[name]
    environment |= {
        "AIONVME_VM": "1",
        "AIONVME_VM_RESULTS": str(_GUEST_RUN / "results"),
        "HOME": str(_GUEST_RUN / "home"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(_GUEST_RUN / "tmp"),
    }
    settings = [f"{name}={value}" for name, value in environment.items()]
    line = shlex.join(["exec", "env", "-i", *settings, *command])
    return f"cd {shlex.quote(str(PROJECT))} || exit\n{line}\n"


def _run(arguments: list[str], folders: Folders, timeout: float, output: BinaryIO) -> int:
    """Run QEMU to its end and return the command's exit code."""
    started, status = folders.control / "started", folders.control / "status"
    with (
        folders.console.open("ab") as console,
        subprocess.Popen(
            arguments,
            env=os.environ | _ZEROED,
            # Never written to; but with stdin at its end QEMU would take the port for unplugged.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=console,
            # A Ctrl-C is ours to handle, not QEMU's.
            start_new_session=True,
        ) as qemu,
    ):
        assert qemu.stdout is not None
        try:
            for chunk in _chunks(qemu.stdout.fileno(), started, timeout):
                output.write(chunk)
                output.flush()
        except TimeoutError as error:
            raise VmError(str(error), folders.console) from None
        finally:
            qemu.kill()
    return _outcome(folders.console, started, status)


def _outcome(console: Path, started: Path, status: Path) -> int:
    """Return the command's exit code, or raise for what the machine did instead or besides."""
    if status.exists():
        code = int(status.read_text())
        line = complaint(console)
        if line is not None:
            raise VmError(f"the command exited with {code}, but the guest's kernel said: {line}", console)
        return code
    what = "the guest's kernel oopsed" if oopsed(console) else "the guest stopped"
    if started.exists():
        raise VmError(f"{what} while the command ran", console)
    failure = BootOopsError if oopsed(console) else VmError
    raise failure(f"{what} before the command started", console)


def _chunks(descriptor: int, started: Path, timeout: float) -> Iterator[bytes]:
    """Yield what QEMU prints until it ends; the file ``started`` appears when the command runs."""
    begin = time.monotonic()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        elapsed = time.monotonic() - begin
        if elapsed > timeout:
            raise TimeoutError(f"the run was not over after {timeout:g} seconds")
        if elapsed > BOOT_TIMEOUT and not started.exists():
            raise TimeoutError(f"the guest had not booted after {BOOT_TIMEOUT:g} seconds")
        if poll.poll(500):
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return
            yield chunk
