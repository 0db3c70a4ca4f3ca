"""The initramfs: busybox, ``init.sh`` and, for a kernel that has its drivers as modules, those."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from .modules import Modules

BUSYBOX = Path("/bin/busybox")
INIT = Path(__file__).with_name("init.sh")

_APPLETS = (
    "cat", "chroot", "insmod", "ip", "ln", "mkdir", "mkfifo", "mount", "poweroff", "setsid", "sh",
    "sync", "usleep",
)  # fmt: skip

# What init.sh loads in one step each.  nvme_core goes with the first group, see there.  What is in "spare" it does not load:
# tests that need it do, from /run/modules/spare in the guest.
_MODULES = {
    "host": ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "nvme_core"),
    "nvme": ("nvme",),
    "spare": ("crc32c_generic", "ext4", "dm_mod"),
}
# ext4 asks for it by another name; newer kernels have it as a library.
_NOT_EVERYWHERE = ("crc32c_generic",)


def archive(modules: Modules | None = None) -> bytes:
    """Return the initramfs for a kernel with these modules, or for one that has everything built in."""
    members = [*_system(), *(_drivers(modules) if modules is not None else ()), _member("TRAILER!!!", 0)]
    return b"".join(members)


def _system() -> Iterator[bytes]:
    for folder in ("bin", "dev", "host", "modules", "proc", "sys"):
        yield _member(folder, stat.S_IFDIR | 0o755)
    yield _member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield _member("init", stat.S_IFREG | 0o755, INIT.read_bytes())
    yield _member("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    for applet in _APPLETS:
        yield _member(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")


def _drivers(modules: Modules) -> Iterator[bytes]:
    """Yield modules/GROUP/NN-NAME.ko, NN being the order to load them in."""
    for group, names in _MODULES.items():
        yield _member(f"modules/{group}", stat.S_IFDIR | 0o755)
        there = [name for name in names if name in modules or name not in _NOT_EVERYWHERE]
        ordered = (module for name in there for module in modules.closure(name))
        for number, (name, contents) in enumerate(ordered):
            file = f"modules/{group}/{number:02}-{name}.ko"
            yield _member(file, stat.S_IFREG | 0o644, contents)


def _member(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one member of a cpio archive in the "newc" format (see cpio(5))."""
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (0, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
