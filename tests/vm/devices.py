"""The guest's NVMe controller, as tests see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


def quoted(path: Path) -> str:
    """Return ``path`` as it is written inside one of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class Zones:
    """The geometry and the limits of a zoned namespace; sizes in bytes."""

    size: int
    capacity: int
    max_open: int
    max_active: int


@dataclass(frozen=True)
class Namespace:
    """A namespace, conventional unless it has ``zones``; sizes in bytes."""

    nsid: int
    size: int
    lba_size: int
    zones: Zones | None = None

    def options(self) -> Iterator[str]:
        """Yield the properties of QEMU's nvme-ns device."""
        yield f"nsid={self.nsid}"
        yield f"logical_block_size={self.lba_size}"
        yield f"physical_block_size={self.lba_size}"
        if self.zones is not None:
            yield "zoned=on"
            yield f"zoned.zone_size={self.zones.size}"
            yield f"zoned.zone_capacity={self.zones.capacity}"
            yield f"zoned.max_open={self.zones.max_open}"
            yield f"zoned.max_active={self.zones.max_active}"


@dataclass(frozen=True)
class Controller:
    """A controller; ``mdts`` and ``zasl`` are powers of two, in units of 4 KiB, as in NVMe."""

    mdts: int
    zasl: int
    namespaces: tuple[Namespace, ...]

    @property
    def nodes(self) -> list[str]:
        """The device nodes that the guest's kernel makes, if this is its only controller."""
        return ["nvme0", *(f"ng0n{namespace.nsid}" for namespace in self.namespaces)]

    def arguments(self, images: Path) -> Iterator[str]:
        """Create the namespaces' (sparse) images and yield QEMU's arguments."""
        yield from (
            "-device",
            f"nvme,id=nvme0,serial=aionvme,mdts={self.mdts},zoned.zasl={self.zasl}",
        )
        for namespace in self.namespaces:
            name = f"nvme0n{namespace.nsid}"
            image = images / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(namespace.size)
            yield from (
                "-drive",
                f"if=none,id={name},format=raw,cache=unsafe,aio=threads,file={quoted(image)}",
                "-device",
                ",".join(["nvme-ns,bus=nvme0", f"drive={name}", *namespace.options()]),
            )


CONTROLLER = Controller(
    mdts=7,  # 512 KiB
    zasl=5,  # 128 KiB: smaller than mdts, so that a test can tell the two limits apart
    namespaces=(
        Namespace(nsid=1, size=64 * MIB, lba_size=512),
        Namespace(
            nsid=2,
            size=32 * 4 * MIB,
            lba_size=4 * KIB,
            zones=Zones(size=4 * MIB, capacity=3 * MIB, max_open=6, max_active=8),
        ),
        Namespace(nsid=3, size=64 * MIB, lba_size=4 * KIB),
    ),
)
