"""The guest's NVMe controllers, as tests see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .faults import MediaErrors, quoted

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Zones:
    """The geometry and the limits of a zoned namespace; sizes in bytes."""

    size: int
    capacity: int
    max_open: int
    max_active: int
    extension: int = 0
    """Length of a zone descriptor extension."""
    random_write: tuple[int, int, int] | None = None
    """Zone random write areas: size, granularity of a flush, and how many zones may have one."""

    def options(self) -> Iterator[str]:
        """Yield the properties of QEMU's nvme-ns device that make it zoned."""
        yield "zoned=on"
        yield f"zoned.zone_size={self.size}"
        yield f"zoned.zone_capacity={self.capacity}"
        yield f"zoned.max_open={self.max_open}"
        yield f"zoned.max_active={self.max_active}"
        yield f"zoned.descr_ext_size={self.extension}"
        if self.random_write is not None:
            size, granularity, count = self.random_write
            yield f"zoned.zrwas={size},zoned.zrwafg={granularity},zoned.numzrwa={count}"


@dataclass(frozen=True)
class Namespace:
    """A namespace, conventional unless it has ``zones``; sizes in bytes.

    ``metadata`` of ``ms`` bytes for each block is in a buffer of its own, or in extended blocks; with a ``protection`` type
    its last 8 bytes, or with ``pil`` its first, are protection information.  ``iops`` is how many commands a second the backend
    answers, None for as many as it can; with ``latency_ms`` it answers each after that time, and stores nothing.
    """

    nsid: int
    lba_size: int
    size: int = 64 * MIB
    zones: Zones | None = None
    metadata: Literal["none", "separate", "extended"] = "none"
    ms: int = 8
    protection: int = 0
    pil: bool = False
    iops: int | None = None
    latency_ms: int | None = None
    unmap: bool = False
    """Whether deallocated blocks are given back, so that the controller can tell them from others."""
    errors: MediaErrors | None = None

    def options(self) -> Iterator[str]:
        """Yield the properties of QEMU's nvme-ns device."""
        yield f"nsid={self.nsid}"
        yield f"logical_block_size={self.lba_size}"
        yield f"physical_block_size={self.lba_size}"
        if self.zones is not None:
            yield from self.zones.options()
        if self.metadata != "none":
            yield f"ms={self.ms},mset={int(self.metadata == 'extended')}"
        if self.protection:
            yield f"pi={self.protection},pil={int(self.pil)}"

    def drive(self, image: Path) -> Iterator[str]:
        """Yield the properties of QEMU's drive behind it."""
        if self.latency_ms is not None:
            yield f"if=none,driver=null-co,size={self.size},latency-ns={self.latency_ms * 1000000}"
            return
        yield "if=none,format=raw,cache=unsafe"
        if self.errors is not None:
            yield from self.errors.drive(image)
        else:
            yield f"aio=threads,file={quoted(image)}"
        if self.unmap:
            yield "discard=unmap"
        if self.iops is not None:
            yield f"throttling.iops-total={self.iops}"


@dataclass(frozen=True)
class Controller:
    """A controller; ``mdts`` and ``zasl`` are powers of two, in units of 4 KiB, as in NVMe, and 0 is no limit of its own.

    Its name is its serial number too, by which the guest finds it: the kernel's own names follow the order of discovery.
    ``paths`` are further controllers of one NVM subsystem with it, which share its serial number and its namespaces.
    """

    name: str
    namespaces: tuple[Namespace, ...]
    mdts: int
    zasl: int = 0
    placement: tuple[int, int] | None = None
    """Flexible Data Placement: the size of a reclaim unit, and how many reclaim unit handles there are, all in each namespace."""
    paths: tuple[str, ...] = ()

    def arguments(self, images: Path) -> Iterator[str]:
        """Create the namespaces' (sparse) images and yield QEMU's arguments."""
        properties = f"serial={self.name},mdts={self.mdts},zoned.zasl={self.zasl}"
        if self.placement is not None or self.paths:
            subsystem = f"nvme-subsys,id={self.name}-subsys,nqn={self.name}"
            if self.placement is not None:
                size, handles = self.placement
                subsystem += f",fdp=on,fdp.runs={size},fdp.nrg=1,fdp.nruh={handles}"
            yield from ("-device", subsystem)
            properties += f",subsys={self.name}-subsys"
        for controller in (self.name, *self.paths):
            yield from ("-device", f"nvme,id={controller},{properties}")
        for namespace in self.namespaces:
            name = f"{self.name}n{namespace.nsid}"
            image = images / f"{name}.img"
            with image.open("wb") as file:
                file.truncate(namespace.size)
            yield from ("-drive", ",".join([f"id={name}", *namespace.drive(image)]))
            options = [f"nvme-ns,id={name},bus={self.name},drive={name}", *namespace.options()]
            if self.placement is not None:
                options.append("fdp.ruhs=" + ";".join(map(str, range(self.placement[1]))))
            yield from ("-device", ",".join(options))


CONTROLLERS = (
    Controller(
        name="nvme0",
        namespaces=(
            Namespace(nsid=1, lba_size=512),
            Namespace(
                nsid=2,
                lba_size=4 * KIB,
                size=32 * 4 * MIB,
                zones=Zones(size=4 * MIB, capacity=3 * MIB, max_open=6, max_active=8),
            ),
            Namespace(nsid=3, lba_size=4 * KIB),
            # Slow enough for commands to be in flight for as long as a test wants them to be.
            Namespace(nsid=4, lba_size=512, iops=4),
            Namespace(nsid=5, lba_size=512, metadata="separate", protection=1),
            Namespace(nsid=6, lba_size=512, metadata="separate", latency_ms=300),
            Namespace(nsid=7, lba_size=512, metadata="extended"),
            Namespace(
                nsid=8,
                lba_size=4 * KIB,
                size=16 * MIB,
                zones=Zones(
                    size=MIB,
                    capacity=768 * KIB,
                    max_open=4,
                    max_active=6,
                    extension=128,
                    random_write=(64 * KIB, 16 * KIB, 2),
                ),
            ),
            # To be mounted, partitioned and otherwise used.
            Namespace(nsid=20, lba_size=512, size=16 * MIB),
            # So large that the addresses in its last zones have more than 32 bits. QEMU resets a zone by writing zeroes: without
            # ``unmap`` that would take the room of all of it.
            Namespace(
                nsid=21,
                lba_size=512,
                size=34 * 64 * GIB,
                zones=Zones(size=64 * GIB, capacity=64 * GIB, max_open=6, max_active=8),
                unmap=True,
            ),
            Namespace(nsid=22, lba_size=512, size=8 * MIB, unmap=True),
        ),
        mdts=7,  # 512 KiB
        zasl=5,  # 128 KiB: smaller than mdts, so that a test can tell the two limits apart
    ),
    # For whatever needs another controller, or takes one away.
    Controller(name="nvme1", namespaces=(Namespace(nsid=1, lba_size=512),), mdts=7),
    # Two ways to the same namespace, and more data for a command than Linux asks of any: 64 MiB.
    Controller(name="nvme4", namespaces=(Namespace(nsid=1, lba_size=512),), mdts=14, paths=("nvme5",)),
    # Metadata and protection information, each in its own way.
    Controller(
        name="nvme2",
        namespaces=(
            Namespace(nsid=1, lba_size=512, size=4 * MIB, metadata="separate"),
            Namespace(nsid=2, lba_size=512, size=4 * MIB, metadata="separate", protection=1),
            Namespace(nsid=3, lba_size=4 * KIB, size=4 * MIB, metadata="extended", protection=1),
            Namespace(nsid=4, lba_size=512, size=4 * MIB, metadata="extended", protection=2),
            Namespace(nsid=5, lba_size=4 * KIB, size=4 * MIB, metadata="separate", protection=3),
            Namespace(nsid=6, lba_size=512, size=4 * MIB, metadata="separate", ms=16, protection=1),
            Namespace(nsid=7, lba_size=4 * KIB, size=4 * MIB, metadata="extended", ms=16, protection=2, pil=True),
            Namespace(
                nsid=8,
                lba_size=4 * KIB,
                size=8 * MIB + 16 * KIB,
                zones=Zones(size=MIB, capacity=768 * KIB, max_open=4, max_active=6),
                metadata="separate",
                protection=1,
            ),
            Namespace(
                nsid=9,
                lba_size=4 * KIB,
                size=8 * MIB,
                zones=Zones(size=MIB, capacity=768 * KIB, max_open=1, max_active=6),
                metadata="separate",
            ),
        ),
        mdts=5,  # 128 KiB
        zasl=4,  # 64 KiB
    ),
    # For faults: bad sectors, and a backend that is stalled by the monitor. Whatever resets a controller is done to this one.
    Controller(
        name="nvme3",
        namespaces=(
            Namespace(nsid=1, lba_size=512, size=8 * MIB, errors=MediaErrors(read=100, write=200, once=300)),
            Namespace(nsid=2, lba_size=512, size=8 * MIB),
        ),
        mdts=7,
    ),
)

# Where QEMU has Flexible Data Placement (8.0 and newer).
FDP = Controller(
    name="fdp",
    namespaces=(Namespace(nsid=1, lba_size=4 * KIB, size=16 * MIB),),
    mdts=7,
    placement=(MIB, 4),
)
