"""Debian kernels, fetched with apt and kept as packages: nothing is installed on the host."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .cache import publish
from .errors import VmError


@dataclass(frozen=True)
class Series:
    """Where one series of kernels comes from.

    ``meta`` depends on the image of the newest release; ``packages`` hold the image and modules.
    """

    meta: str
    packages: tuple[str, ...]


# Not the cloud kernels (linux-image-cloud-amd64): they have no 9p.
SERIES = {
    "6.1": Series(meta="linux-image-amd64", packages=("linux-image-{release}",)),
}


def fetch_packages(series: str, root: Path) -> Path:
    """Return a folder with the packages of a kernel of ``series``, from the cache or the network.

    What the cache has is used as it is, without asking apt: runs stay fast, work offline and do
    not change kernels unasked.
    """
    source = SERIES[series]
    pattern = source.packages[0].format(release=f"{series}.*") + "_*"
    cached = sorted((root / "packages").glob(pattern), key=lambda path: path.stat().st_mtime)
    if cached:
        return cached[-1]
    release = _newest_release(series, source.meta)
    names = [package.format(release=release) for package in source.packages]

    def download(folder: Path) -> Path:
        _run(["apt-get", "download", *names], cwd=folder)
        # apt names the file package_version_architecture.deb.
        (image,) = folder.glob(f"{names[0]}_*.deb")
        return root / "packages" / image.name.rpartition("_")[0]

    return publish(root, download)


def unpack(packages: Path, into: Path) -> None:
    """Unpack every package in the folder ``packages``."""
    for package in packages.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(into)])


def _newest_release(series: str, meta: str) -> str:
    """Return the release, such as 6.1.0-40-amd64, that apt's index knows as the newest."""
    index = _run(["apt-cache", "show", meta])  # newest version first
    found = re.search(rf"\blinux-image-({re.escape(series)}\.[^\s,]+-amd64)\b", index)
    if found is None:
        raise VmError(f"apt knows no {series} kernel in {meta}: wrong Debian release?")
    return found[1]


def _run(command: list[str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise VmError(f"no kernel in the cache, and no {command[0]} to fetch one with") from None
    except subprocess.CalledProcessError as error:
        what = f"{' '.join(command)} failed (is there a network? did apt-get update run?)"
        raise VmError(f"{what}:\n{error.stderr.strip()}") from None
    return done.stdout
