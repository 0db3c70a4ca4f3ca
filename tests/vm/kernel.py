"""The kernel that a run asks for, ready to boot: one of Debian's, or one of ours, with an initramfs that suits it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .archive import unpack
from .cache import PROJECT, publish
from .debian import SERIES, fetch_kernel
from .errors import VmError
from .initramfs import BUSYBOX, INIT, archive
from .modules import Modules
from .vmlinux import extract_vmlinux

RAW = "raw"
KERNELS = (*SERIES, RAW)

_HERE = Path(__file__).parent
_BUILD = PROJECT / "_native" / "kernel" / "build"


@dataclass(frozen=True)
class BootFiles:
    """A kernel image and its initramfs.

    ``own`` is a kernel that ``_native/kernel/build`` made: it has raw queues, everything is built into it, and it never
    patches its own code.  ``new`` is one of Debian's after 6.1.
    """

    image: Path
    initramfs: Path
    own: bool
    new: bool


def boot_files(kernel: str, root: Path) -> BootFiles:
    """Return what to boot ``kernel`` with: a series of Debian's, "raw", or the path of a bzImage of ours.

    What the cache below ``root`` does not have is fetched or built.
    """
    if kernel in SERIES:
        return _debian(kernel, root)
    image = _build() if kernel == RAW else Path(kernel).absolute()
    if not image.is_file():
        raise VmError(f"no kernel {kernel}: choose {', '.join(KERNELS)} or the path of a bzImage")

    def fill(folder: Path) -> None:
        (folder / "initramfs").write_bytes(archive())

    return BootFiles(image, _cached(root, "built-in", fill) / "initramfs", own=True, new=False)


def _debian(series: str, root: Path) -> BootFiles:
    packages = fetch_kernel(series, root)

    def fill(folder: Path) -> None:
        with TemporaryDirectory(dir=root, prefix="unfinished-") as scratch:
            tree = Path(scratch)
            unpack(packages, tree)
            (image,) = tree.glob("**/vmlinuz*")
            (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
            (folder / "initramfs").write_bytes(archive(Modules(tree)))

    folder = _cached(root, packages.name, fill)
    return BootFiles(folder / "vmlinux", folder / "initramfs", own=False, new=series != "6.1")


def _cached(root: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Return the cache's folder of this name, which ``fill`` fills if it is not there or was made in another way."""
    # Everything that decides what the files contain, besides the packages.
    sources = [*(_HERE / name for name in ("kernel.py", "initramfs.py", "modules.py", "vmlinux.py")), INIT, BUSYBOX]
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    target = root / "boot" / f"{name}-{recipe}"

    def build(folder: Path) -> Path:
        fill(folder)
        return target

    return target if target.is_dir() else publish(root, build)


def _build() -> Path:
    """Build our kernel, or find it built; the script says on stderr what it is doing."""
    # In a session of its own, so that all of it can be told to stop, the compilers that make started too.
    with subprocess.Popen(
        [_BUILD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as build:
        try:
            printed, _ = build.communicate()
        except BaseException:
            os.killpg(build.pid, signal.SIGTERM)
            raise
    if build.returncode != 0:
        raise VmError(f"{_BUILD} failed, and has said why")
    return Path(printed.strip())
