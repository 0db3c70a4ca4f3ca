"""What goes wrong in the guest when a test wants it to: media errors, and a controller that can be pulled.

For the rest tests have a line to QEMU's monitor (``tests/guest/monitor.py``), by which backends are stalled and controllers
pulled and put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EIO = 5

# The states of blkdebug's rules, which are 1 at the start.
_ARMED, _SPENT = 1, 2


def quoted(path: Path) -> str:
    """Return ``path`` as it is written inside one of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class MediaErrors:
    """Sectors of 512 bytes that cannot be read or written: ever, or once.

    ``once`` fails the first read and the first write of that sector after a flush, if no other read or write has come before.
    """

    read: int
    write: int
    once: int

    def drive(self, image: Path) -> Iterator[str]:
        """Yield the properties of QEMU's drive: blkdebug below the raw format, whose reads and writes are its events."""
        yield f"file.driver=blkdebug,file.image.driver=file,file.image.filename={quoted(image)}"
        errors = (
            *(("read_aio", self.read, 0), ("write_aio", self.write, 0)),
            *(("read_aio", self.once, _ARMED), ("write_aio", self.once, _ARMED)),
        )
        for i, (event, sector, state) in enumerate(errors):
            yield f"file.inject-error.{i}.event={event},file.inject-error.{i}.state={state}"
            yield f"file.inject-error.{i}.errno={EIO},file.inject-error.{i}.sector={sector}"
        changes = (("read_aio", _ARMED, _SPENT), ("write_aio", _ARMED, _SPENT), ("flush_to_os", _SPENT, _ARMED))
        for i, (event, state, new_state) in enumerate(changes):
            yield f"file.set-state.{i}.event={event},file.set-state.{i}.state={state}"
            yield f"file.set-state.{i}.new_state={new_state}"


@dataclass(frozen=True)
class Pluggable:
    """A controller with one namespace that can be pulled out of its slot and put back, its data staying."""

    name: str
    size: int

    @property
    def slot(self) -> str:
        """The identifier of the slot."""
        return f"{self.name}-slot"

    def properties(self) -> dict[str, str]:
        """Of QEMU's device, on the command line as in the monitor's device_add."""
        return {"driver": "nvme", "id": self.name, "serial": self.name, "drive": f"{self.name}n1", "bus": self.slot}

    def arguments(self, images: Path) -> Iterator[str]:
        """Create the namespace's (sparse) image and yield QEMU's arguments."""
        image = images / f"{self.name}n1.img"
        with image.open("wb") as file:
            file.truncate(self.size)
        # Not -drive: what that makes goes with the device that uses it.
        yield from ("-blockdev", f"driver=file,node-name={self.name}n1,filename={quoted(image)},cache.no-flush=on")
        yield from ("-device", f"pcie-root-port,id={self.slot},chassis=1,slot=1")
        yield from ("-device", ",".join(f"{key}={value}" for key, value in self.properties().items()))


PLUGGABLE = Pluggable("pluggable", 8 << 20)
