"""``python -m tests.vm [OPTIONS] -- COMMAND...``: run a command in the guest."""

from __future__ import annotations

import argparse
import signal
import sys

from .bed import run_in_vm
from .errors import VmError
from .kernel import KERNELS

# Outside the range of what test runners return, and what `docker run` means by it.
VM_FAILED = 125
LOG_LINES = 60


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm",
        description="Run a command of the host's under a Linux kernel with NVMe controllers.",
        epilog=f"Exits with the command's code, or {VM_FAILED} if the virtual machine failed, or its kernel warned of something.",
    )
    parser.add_argument(
        "--kernel",
        default=KERNELS[0],
        metavar="KERNEL",
        help=f"{', '.join(KERNELS)} (Debian's, the last one ours, with raw queues: builds it), or a bzImage made by "
        f"_native/kernel/build with other options (default: {KERNELS[0]})",
    )
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--polled-queues", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--raw-queues", type=int, metavar="N", help="of a kernel that has them (default: 2)")
    parser.add_argument(
        "--icount", action="store_true", help="the guest's clock counts instructions, a nanosecond each"
    )
    parser.add_argument(
        "--newer-qemu", action="store_true", help="for 6.1, too, the QEMU that later kernels have, with more features"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=900,
        metavar="SECONDS",
        help="for the run as a whole (default: 900)",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    options = parser.parse_args()
    # As exceptions, so that QEMU and the temporary files go away.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _frame: sys.exit(128 + number))
    try:
        return run_in_vm(
            options.command,
            kernel=options.kernel,
            cpus=options.cpus,
            polled_queues=options.polled_queues,
            raw_queues=options.raw_queues,
            icount=options.icount,
            newer_qemu=options.newer_qemu,
            timeout=options.timeout,
        )
    except VmError as error:
        _report(error)
        return VM_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _report(error: VmError) -> None:
    if error.console is not None:
        lines = error.console.read_text(errors="replace").splitlines()
        print(f"--- last lines of {error.console}", *lines[-LOG_LINES:], sep="\n", file=sys.stderr)
    print(f"tests.vm: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
