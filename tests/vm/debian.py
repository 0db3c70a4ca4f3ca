"""Debian kernels, kept as packages: nothing is installed on the host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .archive import Suite
from .cache import publish
from .errors import VmError


@dataclass(frozen=True)
class Series:
    """Where one series of kernels comes from.

    The newest ``linux-image-amd64`` of the ``suite`` depends on the image of the newest release, of the form ``release``;
    ``packages`` hold its image and modules, the image first.
    """

    suite: str
    release: re.Pattern[str]
    packages: tuple[str, ...]


NEWEST = "newest"
"""Whatever kernel is the newest that Debian has for its stable release."""

# Not the cloud kernels (linux-image-cloud-amd64): they have no 9p.
SERIES = {
    "6.1": Series("bookworm", re.compile(r"6\.1\.[^\s,]+-amd64"), ("linux-image-{release}",)),
    "6.12": Series("bookworm-backports", re.compile(r"6\.12\.[^\s,]+-amd64"), ("linux-image-{release}",)),
    # From 7.x on the package of the image is empty.
    NEWEST: Series(
        "trixie-backports",
        re.compile(r"\d+\.[^\s,]+-amd64"),
        ("linux-binary-{release}", "linux-modules-{release}", "linux-base-{release}"),
    ),
}


def fetch_kernel(series: str, root: Path) -> Path:
    """Return a folder with the packages of a kernel of ``series``, from the cache or the network.

    What the cache has is used as it is, without asking apt: runs stay fast, work offline and do
    not change kernels unasked.
    """
    source = SERIES[series]
    names = re.compile(source.packages[0].format(release=f"({source.release.pattern})") + "_.*")
    cached = [path for path in (root / "packages").glob("linux-*") if names.fullmatch(path.name)]
    if cached:
        return max(cached, key=lambda path: path.stat().st_mtime)
    suite = Suite(source.suite, root)
    found = re.search(rf"\blinux-image-({source.release.pattern})\b", suite.show("linux-image-amd64"))
    if found is None:
        raise VmError(f"{source.suite} has no {series} kernel")
    packages = tuple(package.format(release=found[1]) for package in source.packages)

    def download(folder: Path) -> Path:
        suite.download(packages, folder)
        # apt names the file package_version_architecture.deb.
        (image,) = folder.glob(f"{packages[0]}_*.deb")
        return root / "packages" / image.name.rpartition("_")[0]

    return publish(root, download)
