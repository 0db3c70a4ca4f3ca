"""Who uses a namespace through its block device, as the kernel tells: what passthrough would write to behind their back.

The kernel lets passthrough commands through to a namespace whose block device is mounted. What can be seen of such use: mounts of
this mount namespace (``/proc/self/mountinfo``), swap (``/proc/swaps``), the devices that are made of it (``holders/`` in sysfs:
device mapper, md, bcache), the file systems that sysfs lists whoever has mounted them (``fs/``: ext4, xfs, f2fs, btrfs and
others), and, where its node may be opened, whether somebody holds it exclusively, which file systems, RAIDs and careful programs
do, wherever they run. What cannot be seen is a program that has the block device open in the ordinary way.
"""

import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from aionvme import devices
from aionvme.devices import attribute_text

PROC = Path("/proc")

ASKED = 20
"""How often it is asked, a millisecond apart, whether a block device is held: who only asks, as we do, lets go at once."""


def users_of(block_name: str) -> list[str]:
    """What uses a block device or its partitions, in words: ``/dev/nvme0n1p1 is mounted on /mnt``. It takes some 200 us."""
    nodes = dict(_disk_and_partitions(block_name))
    users = [*_mounts(nodes), *_swaps(nodes), *_holders(nodes), *_btrfs(nodes)] or [*_mounted_elsewhere(nodes)]
    if not users and nodes and _held(block_name, nodes):
        users.append(
            f"/dev/{block_name} or a partition is held exclusively, by a program (a virtual machine?), or by a mount, RAID or "
            "volume that is not seen from here"
        )
    return users


def users_of_subsystem(owner: Path) -> list[str]:
    """What uses any namespace of the NVM subsystem of a controller, given in sysfs: some admin commands destroy them all."""
    return [user for name in _namespaces_beside(owner) for user in users_of(name)]


def _disk_and_partitions(block_name: str) -> Iterator[tuple[str, str]]:
    """Numbers and name of each, ``259:0`` and ``nvme0n1``; none where there is no such block device."""
    disk = devices.SYSFS / "class/block" / block_name
    partitions = [name for name in _names_in(disk) if re.fullmatch(rf"{re.escape(block_name)}p\d+", name)]
    for folder in (disk, *(disk / name for name in sorted(partitions))):
        number = attribute_text(folder / "dev")
        if number is not None:
            yield number, folder.name


def _mounts(nodes: dict[str, str]) -> Iterator[str]:
    for line in _lines(PROC / "self/mountinfo"):
        before, _, behind = line.partition(" - ")
        number, where, source = before.split(" ")[2], before.split(" ")[4], behind.split(" ")[1]
        # A file system of several devices has a number of its own; its source says one of them.
        name = nodes.get(number) or _node_of(_unescaped(source), nodes)
        if name is not None:
            yield f"/dev/{name} is mounted on {_unescaped(where)}"


def _swaps(nodes: dict[str, str]) -> Iterator[str]:
    for line in _lines(PROC / "swaps")[1:]:
        name = _node_of(_unescaped(line.partition(" ")[0]), nodes)
        if name is not None:
            yield f"/dev/{name} is swap space"


def _holders(nodes: dict[str, str]) -> Iterator[str]:
    for name in nodes.values():
        for holder in sorted(_names_in(devices.SYSFS / "class/block" / name / "holders")):
            mapped = attribute_text(devices.SYSFS / "class/block" / holder / "dm/name")
            yield f"/dev/{name} is part of /dev/{holder}" + (f" ({mapped})" if mapped else "")


def _btrfs(nodes: dict[str, str]) -> Iterator[str]:
    folder = devices.SYSFS / "fs/btrfs"
    for uuid in _names_in(folder):
        for name in nodes.values():
            if (folder / uuid / "devices" / name).exists():
                yield f"/dev/{name} belongs to the mounted btrfs {uuid}"


def _mounted_elsewhere(nodes: dict[str, str]) -> Iterator[str]:
    """File systems that name their device in sysfs, in whatever mount namespace they are: a container's, for one."""
    for kind in _names_in(devices.SYSFS / "fs"):
        for name in nodes.values():
            if (devices.SYSFS / "fs" / kind / name).exists():
                yield f"/dev/{name} is mounted ({kind}), though not where this process sees it"


def _held(block_name: str, nodes: dict[str, str]) -> bool:
    """Whether somebody has the block device or a partition exclusively, as far as this user may ask.

    To ask is to hold it for a moment: where two ask at once, one of them has to ask again.
    """
    path = f"/dev/{block_name}"
    if _node_of(path, nodes) is None:
        return False
    for _ in range(ASKED):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno != errno.EBUSY:
                return False
            time.sleep(0.001)
        else:
            return False
    return True


def _node_of(path: str, nodes: dict[str, str]) -> str | None:
    """Which of the devices a path is, if any."""
    if not path.startswith("/dev/"):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return nodes.get(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")


def _names_in(folder: Path) -> list[str]:
    """What a folder holds, nothing where it is not there."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _lines(table: Path) -> list[str]:
    """The lines of one of the kernel's tables. Only newline ends one: the kernel escapes no other that str.splitlines() knows."""
    text = attribute_text(table)
    return text.split("\n") if text else []


def _unescaped(text: str) -> str:
    r"""A path as the kernel writes it in its tables, with ``\040`` for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _namespaces_beside(owner: Path) -> list[str]:
    """Names of the block devices of a controller's NVM subsystem, or of that subsystem."""
    folders = [owner]
    for subsystem in (devices.SYSFS / "class/nvme-subsystem").glob("*"):
        if subsystem.name == owner.name or (subsystem / owner.name).exists():
            controllers = [entry for entry in subsystem.glob("nvme*") if re.fullmatch(r"nvme\d+", entry.name)]
            folders += [subsystem, *controllers]
    names = {entry.name for folder in folders for entry in folder.glob("nvme*n*")}
    return sorted(name for name in names if re.fullmatch(r"nvme\d+n\d+", name))
