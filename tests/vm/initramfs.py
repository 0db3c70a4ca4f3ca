"""What the kernel boots with: its uncompressed image and a small initramfs, both cached."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .cache import publish
from .kernel import fetch_packages, unpack
from .modules import Modules
from .vmlinux import extract_vmlinux

BUSYBOX = Path("/bin/busybox")

_HERE = Path(__file__).parent
_INIT = _HERE / "init.sh"
_APPLETS = (
    "cat", "chroot", "insmod", "ip", "ln", "mkdir", "mkfifo", "mount", "poweroff", "setsid", "sh",
    "sync", "usleep",
)  # fmt: skip

# What init.sh loads in one step each.  nvme_core goes with the first group, see there.
_MODULES = {
    "host": ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "nvme_core"),
    "nvme": ("nvme",),
}


@dataclass(frozen=True)
class BootFiles:
    """A kernel image and its initramfs."""

    kernel: Path
    initramfs: Path


def boot_files(series: str, root: Path) -> BootFiles:
    """Return what to boot a kernel of ``series`` with, built if the cache does not have it."""
    packages = fetch_packages(series, root)
    # Everything that decides what the files contain, besides the packages.
    sources = [Path(__file__), _HERE / "modules.py", _HERE / "vmlinux.py", _INIT, BUSYBOX]
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    target = root / "boot" / f"{packages.name}-{recipe.hexdigest()[:12]}"

    def build(folder: Path) -> Path:
        with TemporaryDirectory(dir=root, prefix="unfinished-") as scratch:
            tree = Path(scratch)
            unpack(packages, tree)
            (image,) = (tree / "boot").glob("vmlinuz-*")
            (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
            (folder / "initramfs").write_bytes(b"".join(_archive(Modules(tree))))
        return target

    if not target.is_dir():
        publish(root, build)
    return BootFiles(target / "vmlinux", target / "initramfs")


def _archive(modules: Modules) -> Iterator[bytes]:
    """Yield the members of the initramfs; modules are modules/GROUP/NN-NAME.ko, NN their order."""
    for folder in ("bin", "dev", "host", "modules", "proc", "sys"):
        yield _member(folder, stat.S_IFDIR | 0o755)
    yield _member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield _member("init", stat.S_IFREG | 0o755, _INIT.read_bytes())
    yield _member("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    for applet in _APPLETS:
        yield _member(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for group, names in _MODULES.items():
        yield _member(f"modules/{group}", stat.S_IFDIR | 0o755)
        ordered = (module for name in names for module in modules.closure(name))
        for number, (name, contents) in enumerate(ordered):
            file = f"modules/{group}/{number:02}-{name}.ko"
            yield _member(file, stat.S_IFREG | 0o644, contents)
    yield _member("TRAILER!!!", 0)


def _member(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one member of a cpio archive in the "newc" format (see cpio(5))."""
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (0, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + path) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
