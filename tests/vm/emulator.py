"""Which QEMU runs the guest: the host's, or a newer one beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .archive import Suite, unpack
from .cache import publish
from .errors import VmError

_NAME = "qemu-system-x86_64"
_PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
_NEWER = (8, 0)


@dataclass(frozen=True)
class Emulator:
    """A QEMU: its program, where its data is (nothing for the host's, which knows), and its major and minor version."""

    program: Path
    data: tuple[Path, ...]
    version: tuple[int, int]

    @property
    def has_fdp(self) -> bool:
        """Whether its controllers may have Flexible Data Placement."""
        return self.version >= _NEWER


def hosts() -> Emulator:
    """Return the host's QEMU. Raises VmError where there is none."""
    found = shutil.which(_NAME)
    if found is None:
        raise VmError("missing on this host: apt-get install qemu-system-x86")
    return _emulator(Path(found), ())


def newer(root: Path) -> Emulator:
    """Return the host's if it is 8.0 or newer, else that of Debian 12's backports, from the cache or the network."""
    host = hosts()
    if host.version >= _NEWER:
        return host
    cached = sorted((root / "qemu").glob("*"))
    tree = cached[-1] if cached else publish(root, lambda folder: _fetch(folder, root))
    share = tree / "usr" / "share"
    return _emulator(tree / "usr" / "bin" / _NAME, (share / "qemu", share / "seabios"))


def _fetch(folder: Path, root: Path) -> Path:
    packages, tree = folder / "packages", folder
    packages.mkdir()
    Suite("bookworm-backports", root).download(_PACKAGES, packages)
    unpack(packages, tree)
    (image,) = packages.glob(f"{_PACKAGES[0]}_*")
    name = image.name.split("_")[1]
    shutil.rmtree(packages)
    return root / "qemu" / name.replace("%3a", "-")


def _emulator(program: Path, data: tuple[Path, ...]) -> Emulator:
    try:
        said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise VmError(f"{program} does not run here: {getattr(error, 'stderr', None) or error}") from None
    found = re.search(r"version (\d+)\.(\d+)", said)
    if found is None:
        raise VmError(f"{program} does not say which version it is: {said!r}")
    return Emulator(program, data, (int(found[1]), int(found[2])))
