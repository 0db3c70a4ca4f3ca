"""Device nodes: there, the right ones, and open to this user; and if not, which of the things in between forbids it."""

import errno
import os
import stat
from pathlib import Path

from aionvme import devices
from aionvme.devices import attribute_text
from aionvme.doctor.check import Check, one_line

ANEW = "start udev, or give the container the device again (--device): nodes are made for the numbers of one boot"


def node(name: str, path: Path) -> Check:
    """Whether this user may open a device node for reading and writing: tried, for not only the mode decides that."""
    try:
        status = path.stat()
    except OSError as error:
        remedy = "the kernel has the device: let udev make its node, or pass it to this container (--device)"
        return Check(name, "fail", one_line(error), remedy)
    flaw = _wrong_node(name, path, status)
    if flaw is not None:
        return flaw
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return _refused(name, path, status, error)
    return Check(name, "ok", f"{path}: this user may read and write it")


def _refused(name: str, path: Path, status: os.stat_result, error: OSError) -> Check:
    may = [verb for verb, mode in (("read", os.R_OK), ("write", os.W_OK)) if os.access(path, mode, effective_ids=True)]
    if error.errno == errno.EACCES and len(may) < 2:
        found = f"{path}: uid {os.geteuid()} may {may[0] + ' only' if may else 'neither read nor write'}"
        owner = f"it belongs to uid {status.st_uid}, gid {status.st_gid}, mode {status.st_mode & 0o777:04o}"
        remedy = f"run as root, or give this user the device node: setfacl -m u:{os.geteuid()}:rw {path}"
        return Check(name, "fail", f"{found}; {owner}", remedy)
    if error.errno == errno.EACCES and os.statvfs(path).f_flag & os.ST_NODEV:
        remedy = "its file system is mounted with nodev, where no device can be opened: use the node in /dev"
    elif error.errno == errno.EPERM:
        remedy = (
            f"the control group of this container or unit does not have the device: --device {path} (docker, podman), "
            f"DeviceAllow={path} rw (systemd)"
        )
    elif error.errno in (errno.ENXIO, errno.ENODEV):
        remedy = f"no driver answers: {ANEW}"
    else:
        remedy = "look for a security module's refusal in the kernel log"
    return Check(name, "fail", f"{one_line(error)}, whatever its mode allows", remedy)


def _wrong_node(name: str, path: Path, status: os.stat_result) -> Check | None:
    """A thing of this name that is not the device that the kernel calls so."""
    if stat.S_ISDIR(status.st_mode):
        remedy = f"pass the device itself: --device {path}; a volume (-v) of something that is not there is a folder"
        return Check(name, "fail", f"{path} is a folder", remedy)
    folder = "nvme-generic" if path.name.startswith("ng") else "nvme"
    number = attribute_text(devices.SYSFS / "class" / folder / path.name / "dev")
    is_number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    if number is not None and path.parent == Path("/dev") and number != is_number:
        return Check(name, "fail", f"{path} is device {is_number}, and the kernel's {path.name} is {number}", ANEW)
    return None
