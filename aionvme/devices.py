"""NVMe devices of this machine, as the kernel shows them in sysfs.

A namespace has a generic character device, ``/dev/ngXnY``, which takes passthrough commands, beside its block device
``/dev/nvmeXnY``. Its controller is ``/dev/nvmeX``; with multipath there are several, found under the subsystem.
"""

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aionvme.errors import UsageError

SYSFS = Path("/sys")

Presence = Callable[[], Literal["present", "away", "gone"]]
"""Tells of a device whether it is there, or has been removed or is about to be ("gone"), or is a namespace whose paths are all
being reset ("away"): the kernel takes no commands to it then."""


@dataclass(frozen=True)
class ControllerPath:
    """One of the ways to a namespace: a controller, its state ("live" where it takes commands), and where it is attached.

    A controller that was removed is known until nobody has it open any more; its state is "removed" then, its address empty.
    """

    name: str
    state: str
    address: str


@dataclass(frozen=True)
class GenericDevice:
    """A namespace's character device, its controller's, and where its request queue's limits are."""

    path: Path
    name: str
    controller: Path

    @property
    def block_name(self) -> str:
        """Name of the block device of the same namespace: nvme0n1 beside ng0n1.

        The first number is not always the same, that of the controller in one name and of the subsystem in the other: so the
        block device is the one with the same last number below the same device.
        """
        number = self.name.rpartition("n")[2]
        for entry in _parent_of(self.name).glob(f"nvme*n{number}"):
            if re.fullmatch(rf"nvme\d+n{number}", entry.name):
                return entry.name
        return "nvme" + self.name.removeprefix("ng")

    @property
    def owner(self) -> Path:
        """Its controller in sysfs, or with multipath its subsystem."""
        return _parent_of(self.name)

    def queue_limit(self, attribute: str) -> int | None:
        """An integer attribute of the request queue (``max_hw_sectors_kb``, ``nr_requests``), None where it has none.

        With multipath every path has a queue of its own, one of which a command takes: so it is the least of theirs. That of
        the namespace itself holds no requests, whatever its ``nr_requests``.
        """
        names = self._path_block_names() or [self.block_name]
        limits = [_integer(SYSFS / "class/block" / name / "queue" / attribute) for name in names]
        return min((limit for limit in limits if limit is not None), default=None)

    def block_attribute(self, name: str) -> str | None:
        """The text of a sysfs attribute of the block device (``integrity/format``), None where it has none."""
        return attribute_text(SYSFS / "class/block" / self.block_name / name)

    @property
    def paths(self) -> tuple[ControllerPath, ...]:
        """The controllers that lead to it with multipath, none where it belongs to one alone."""
        return _paths_below(_parent_of(self.name))

    def _path_block_names(self) -> list[str]:
        """The hidden block devices of its paths: nvme3c2n1 is that of controller nvme2."""
        number = self.name.rpartition("n")[2]
        parent = _parent_of(self.name)
        return [entry.name for path in self.paths for entry in (parent / path.name).glob(f"nvme*c*n{number}")]

    @property
    def integrity(self) -> str | None:
        """What the kernel takes the namespace's metadata for: "nop" where it means nothing to it, "none" where it passes none,
        None where it was built without such things."""
        return attribute_text(SYSFS / "class/block" / self.block_name / "integrity/format")

    def controller_attribute(self, name: str) -> str | None:
        """The text of a sysfs attribute of the controller (``sqsize``), None where it has none."""
        return attribute_text(SYSFS / "class/nvme" / self.controller.name / name)


def kernel_version() -> tuple[int, int]:
    """Major and minor version of the running kernel, (0, 0) where its release does not begin with them."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def driver_parameter(name: str) -> int | None:
    """A parameter of the nvme driver (``poll_queues``), None where the driver is not there or does not have it."""
    return _integer(SYSFS / "module/nvme/parameters" / name)


def generic_devices() -> list[GenericDevice]:
    """Every namespace of this machine, in order of name."""
    names = sorted(entry.name for entry in (SYSFS / "class/nvme-generic").glob("ng*"))
    return [GenericDevice(Path("/dev", name), name, _controller_of(name)) for name in names]


def find(path: Path) -> GenericDevice:
    """The generic device behind a path.

    Raises FileNotFoundError, or UsageError saying what the path is instead and which one would do.
    """
    status = _status(path, "nvme-generic")
    name = _sysfs_name(status)
    if stat.S_ISCHR(status.st_mode) and (SYSFS / "class/nvme-generic" / name).exists():
        return GenericDevice(path, name, _controller_of(name))
    raise UsageError(f"{path} is {_describe(status, name)}")


def controller_folder(path: Path) -> Path:
    """A controller in sysfs, by its character device."""
    return Path(os.path.realpath(SYSFS / "class/nvme" / _sysfs_name(path.stat())))


def presence(fd: int) -> Presence:
    """What tells of a namespace's or a controller's device, while it is open as ``fd``.

    The kernel gives its number to no other device meanwhile, so it is looked up by that: names can be another's soon.
    """
    number = os.fstat(fd).st_rdev
    entry = SYSFS / f"dev/char/{os.major(number)}:{os.minor(number)}"

    def look() -> Literal["present", "away", "gone"]:
        while True:
            try:
                return _look(entry)
            except FileNotFoundError:  # what goes while it is looked at
                continue

    return look


def _look(entry: Path) -> Literal["present", "away", "gone"]:
    parent = Path(os.path.realpath(entry / "device"))
    own = attribute_text(entry / "state") or attribute_text(parent / "state")
    states = [own] if own else [path.state for path in _paths_below(parent)]
    if not entry.exists() or (states and all(_is_ending(state) for state in states)):
        return "gone"
    away = states and not own and all(_is_ending(state) or state in _RESET for state in states)
    return "away" if away else "present"


_RESET = ("new", "resetting", "connecting")
"""States of a controller on its way to being live (again)."""


def _is_ending(state: str) -> bool:
    return state == "dead" or state.startswith("deleting")


def find_controller(path: Path) -> Path:
    """The character device of a controller from its path, or that of one of its namespaces. Raises as :func:`find`."""
    status = _status(path, "nvme")
    name = _sysfs_name(status)
    if stat.S_ISCHR(status.st_mode):
        if (SYSFS / "class/nvme" / name).exists():
            return path
        if (SYSFS / "class/nvme-generic" / name).exists():
            return _controller_of(name)
    raise UsageError(
        f"{path} is not the character device of an NVMe controller, such as /dev/nvme0, nor of a namespace"
    )


def _status(path: Path, kind: str) -> os.stat_result:
    """What is at a path, where the kernel's class ``kind`` of devices is looked for."""
    try:
        return path.stat()
    except FileNotFoundError:
        if str(path).lower().startswith("emu"):
            raise UsageError(f"{str(path)!r} is no device: an emulated one is written emu:nvm or emu:zns") from None
        known = (SYSFS / "class" / kind / path.name).exists()
        problem = (
            "the kernel has this one but there is no device node for it: give it to the container, or start udev"
            if known
            else "no such device: `aionvme list` shows those there are"
        )
        raise FileNotFoundError(errno.ENOENT, problem, str(path)) from None


def _sysfs_name(status: os.stat_result) -> str:
    kind = "block" if stat.S_ISBLK(status.st_mode) else "char"
    return Path(os.path.realpath(SYSFS / f"dev/{kind}/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")).name


def _describe(status: os.stat_result, name: str) -> str:
    if stat.S_ISBLK(status.st_mode):
        if name.startswith("nvme"):
            whole = name.split("p")[0]
            generic = next((d.path for d in generic_devices() if d.block_name == whole), "/dev/ngXnY")
            return f"a block device, and passthrough needs the character device of its namespace: {generic}"
        return "a block device, but not an NVMe one: aionvme needs /dev/ngXnY"
    if stat.S_ISCHR(status.st_mode):
        if (SYSFS / "class/nvme" / name).exists():
            number = name.removeprefix("nvme")
            return f"an NVMe controller (open_controller()): name one of its namespaces, such as /dev/ng{number}n1"
        return "a character device, but not an NVMe namespace: aionvme needs /dev/ngXnY"
    return "no device at all: aionvme needs /dev/ngXnY, or an emulated namespace such as 'emu:zns'"


def _parent_of(name: str) -> Path:
    """The device that a generic device belongs to: its controller, or with multipath its subsystem."""
    return Path(os.path.realpath(SYSFS / "class/nvme-generic" / name / "device"))


def _paths_below(parent: Path) -> tuple[ControllerPath, ...]:
    if not parent.name.startswith("nvme-subsys"):
        return ()
    return tuple(
        ControllerPath(
            entry.name, attribute_text(entry / "state") or "removed", attribute_text(entry / "address") or ""
        )
        for entry in sorted(parent.glob("nvme*"))
        if re.fullmatch(r"nvme\d+", entry.name)
    )


def _controller_of(name: str) -> Path:
    parent = _parent_of(name)
    live_first = sorted(_paths_below(parent), key=lambda path: path.state != "live")
    return Path("/dev", live_first[0].name if live_first else parent.name)


def _integer(path: Path) -> int | None:
    text = attribute_text(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def attribute_text(path: Path) -> str | None:
    """The text of a sysfs attribute, None where it is not there or not to be read."""
    try:
        # Whatever is no UTF-8 (a mount point may be named so) is told as escapes.
        return path.read_bytes().decode(errors="backslashreplace").strip()
    except OSError:
        return None
