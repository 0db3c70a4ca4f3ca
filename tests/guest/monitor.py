"""QEMU's monitor, from inside of the guest: stalled backends, and controllers that are pulled and put back.

A virtio serial port leads to it (``tests/vm/qemu.py``). It speaks QMP, a JSON object a line.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aionvme.devices import attribute_text
from tests.vm.faults import PLUGGABLE


def execute(command: str, **arguments: Any) -> Any:
    """Carry a command out and return what it does; RuntimeError with QEMU's words where it fails."""
    with _port().open("r+b", buffering=0) as port:
        # The connection lasts as long as the machine: where it has been negotiated before, this fails, which does not matter.
        port.write(b'{"execute": "qmp_capabilities", "id": 0}\n')
        port.write(json.dumps({"execute": command, "arguments": arguments, "id": 1}).encode() + b"\n")
        while True:
            answer = json.loads(port.readline())
            if answer.get("id") == 1:
                break
    if "error" in answer:
        raise RuntimeError(f"QEMU: {answer['error']['desc']}")
    return answer["return"]


def _port() -> Path:
    for port in Path("/sys/class/virtio-ports").iterdir():
        if attribute_text(port / "name") == "monitor":
            return Path("/dev", port.name)
    raise LookupError("this guest has no line to QEMU's monitor")


def throttle(device: str, commands_per_s: int) -> None:
    """Let a backend answer so many commands a second, one at a time, or with 0 as many as it can."""
    execute("block_set_io_throttle", id=device, iops=commands_per_s, iops_rd=0, iops_wr=0, bps=0, bps_rd=0, bps_wr=0)


@contextmanager
def slowed(device: str, commands_per_s: int) -> Iterator[None]:
    """The same for a while.

    QEMU's controller waits for all commands of a queue that is deleted, by a reset or a removal, and the whole machine with
    it: so slow backends must not be all too slow.
    """
    throttle(device, commands_per_s)
    try:
        yield
    finally:
        throttle(device, 0)


def pull() -> None:
    """Ask the guest to let go of the pluggable controller, as somebody does who pulls it with its button."""
    execute("device_del", id=PLUGGABLE.name)


def plug() -> None:
    """Put it back; RuntimeError where it is there still."""
    execute("device_add", **PLUGGABLE.properties())
