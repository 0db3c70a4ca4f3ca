"""The doctor tells one trap from another: each is made here for real, blamed by its own check, and gone with the remedy."""

import errno
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aionvme.cli import main
from aionvme.devices import find, kernel_version
from tests.conftest import node
from tests.guest.traps import (
    NOBODY,
    Checks,
    bind,
    bind_again,
    changes,
    controller,
    doctor,
    folded,
    instead,
    modes,
    page,
    pci_address,
    setting,
    sysfs_without_integrity,
    unbind,
    until,
)

pytestmark = pytest.mark.feature("doctor")

IO_URING_DISABLED = "/proc/sys/kernel/io_uring_disabled"
IO_URING_GROUP = "/proc/sys/kernel/io_uring_group"
POLL_QUEUES = "/sys/module/nvme/parameters/poll_queues"

SINCE_6_6 = pytest.mark.feature("doctor: io_uring switched off", since=(6, 6))
UNPRIVILEGED = "nobody"


@pytest.fixture(scope="module")
def target() -> str:
    """The namespace that nobody else needs."""
    # What is imported late is to be there when a child may no longer read it.
    main(["doctor", "emu:nvm"])
    return node(1, "nvme1")


@pytest.fixture(scope="module")
def nodes(target: str) -> list[str]:
    """The device nodes that it takes to open the namespace."""
    return [target, f"/dev/{controller(target).name}"]


@pytest.fixture(scope="module")
def healthy(target: str) -> Checks:
    """What the doctor says of it when there is nothing wrong, to root."""
    return doctor(target)


@pytest.fixture(scope="module")
def healthy_to_all(target: str, nodes: list[str]) -> Checks:
    """What the doctor says to somebody without rights, of nodes that anybody may open."""
    with modes(0o666, *nodes):
        return doctor(target, UNPRIVILEGED)


@pytest.fixture
def open_to_all(nodes: list[str], healthy_to_all: Checks) -> Iterator[Checks]:
    """Nodes that anybody may open, and what the doctor says of them to somebody without rights."""
    with modes(0o666, *nodes):
        yield healthy_to_all


def test_a_healthy_machine(target: str, healthy: Checks) -> None:
    """Nothing is blamed but what the kernel's own age brings with it; the page ends with that."""
    flaws = {name for name, check in healthy.items() if check["verdict"] in ("warn", "fail")}
    too_old = {"kernel": kernel_version() < (6, 2), "polled queue": kernel_version() < (6, 5)}
    assert flaws == {name for name, old in too_old.items() if old}
    if "polled queue" in flaws:
        assert "Linux before 6.5 can crash" in healthy["polled queue"]["found"]
        assert "6.5" in healthy["polled queue"]["remedy"]
    assert healthy["raw queues"]["verdict"] == healthy["raw queue"]["verdict"] == "absent"
    assert "never reached mainline" in healthy["raw queue"]["found"]
    status, shown = page("doctor", target)
    assert status == 0
    assert shown.splitlines()[-1] == "Nothing is broken."


@SINCE_6_6
def test_io_uring_off_for_everybody(target: str, healthy: Checks) -> None:
    """kernel.io_uring_disabled = 2 is blamed on that sysctl, root or not; the remedy's command mends it."""
    with setting(IO_URING_DISABLED, "2"):
        checks = doctor(target)
        assert changes(healthy, checks) == {"io_uring": "fail"}
        assert "kernel.io_uring_disabled is 2, off for everybody" in checks["io_uring"]["remedy"]
        assert "first io_uring" in checks["open"]["remedy"]
        carry_out_sysctl(checks["io_uring"]["remedy"])
        assert changes(healthy, doctor(target)) == {}


@SINCE_6_6
def test_io_uring_off_for_the_unprivileged(target: str, healthy: Checks, open_to_all: Checks) -> None:
    """kernel.io_uring_disabled = 1 leaves root alone; others are told of the group, which mends it, and so does the sysctl."""
    with setting(IO_URING_DISABLED, "1"):
        assert changes(healthy, doctor(target)) == {}
        checks = doctor(target, UNPRIVILEGED)
        assert changes(open_to_all, checks) == {"io_uring": "fail"}
        assert "kernel.io_uring_disabled is 1, for the privileged only" in checks["io_uring"]["remedy"]
        assert "name a group in kernel.io_uring_group" in checks["io_uring"]["remedy"]
        with setting(IO_URING_GROUP, str(NOBODY)):
            assert changes(open_to_all, doctor(target, UNPRIVILEGED)) == {}
        with setting(IO_URING_GROUP, "4242"):
            checks = doctor(target, UNPRIVILEGED)
            assert "join the group with id 4242" in checks["io_uring"]["remedy"]
        carry_out_sysctl(checks["io_uring"]["remedy"])
        assert changes(open_to_all, doctor(target, UNPRIVILEGED)) == {}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_a_filter_in_front_of_io_uring(target: str, healthy: Checks, number: int) -> None:
    """A seccomp filter, whatever errno it has, is told from a sysctl and from an old kernel."""
    checks = doctor(target, f"errno={number}")
    assert changes(healthy, checks) == {"io_uring": "fail"}
    assert f"[{errno.errorcode[number]}]" in checks["io_uring"]["found"]
    assert "runs under a seccomp filter" in checks["io_uring"]["remedy"]
    assert "--security-opt seccomp=" in checks["io_uring"]["remedy"]


BIG_ENTRIES = 1 << 10 | 1 << 11  # IORING_SETUP_SQE128, _CQE32
DEFER_TASKRUN = 1 << 13


def test_rings_without_big_entries(target: str, healthy: Checks) -> None:
    """Where rings have no big entries, as before Linux 5.19, that is blamed and not io_uring."""
    checks = doctor(target, f"flags={BIG_ENTRIES}")
    assert changes(healthy, checks) == {"big entries": "fail"}
    assert "without big entries" in checks["io_uring"]["found"]
    assert checks["open"]["remedy"] == "first big entries"


def test_rings_without_deferred_work(target: str, healthy: Checks) -> None:
    """Where rings are those of Linux 5.19, commands go interrupt driven, and polling is what is missing."""
    checks = doctor(target, f"flags={DEFER_TASKRUN}")
    polls = healthy["polled queue"]["verdict"] == "ok"
    assert changes(healthy, checks) == {"polling": "warn"} | ({"polled queue": "warn"} if polls else {})
    assert "Linux 6.1" in checks["polling"]["remedy"]
    assert checks["queue"]["found"].startswith("auto takes interrupt")


def test_little_memory_to_be_locked(target: str, healthy: Checks, open_to_all: Checks) -> None:
    """RLIMIT_MEMLOCK is nothing to root, and a warning to others, until it is raised."""
    assert changes(healthy, doctor(target, "memlock=65536")) == {}
    checks = doctor(target, "memlock=65536,nobody")
    assert changes(open_to_all, checks) == {"memlock": "warn"}
    assert "RLIMIT_MEMLOCK is 64 KiB" in checks["memlock"]["found"]
    assert "ulimit -l" in checks["memlock"]["remedy"]
    assert changes(open_to_all, doctor(target, "memlock=16777216,nobody")) == {}


def test_no_poll_queues(target: str, healthy: Checks) -> None:
    """A driver without poll queues; one that has them since its controller came up; and the remedy that needs no reboot."""
    polls = healthy["polled queue"]["verdict"] == "ok"
    address = pci_address(controller(target))
    with setting(POLL_QUEUES, "0"):
        bind_again(address, "nvme1")
        checks = doctor(target)
        assert changes(healthy, checks) == {"poll queues": "warn"} | ({"polled queue": "warn"} if polls else {})
        for name in ("poll queues", "polled queue"):
            assert "poll_queues is 0" in checks[name]["found"]
            assert "nvme.poll_queues=2" in checks[name]["remedy"]
    checks = doctor(target)
    assert changes(healthy, checks) == ({"polled queue": "warn"} if polls else {})
    assert "it came up before that was set" in checks["polled queue"]["found"]
    assert "/sys/bus/pci/drivers/nvme/unbind and to bind" in checks["polled queue"]["remedy"]
    bind_again(address, "nvme1")
    assert doctor(target)["polled queue"] == healthy["polled queue"]


WHICH_NODE = pytest.mark.parametrize("which", ["namespace node", "controller node"])


@pytest.mark.parametrize(
    ("which", "mode", "may", "verdict"),
    [
        ("namespace node", 0o600, "neither read nor write", "fail"),
        ("namespace node", 0o604, "read only", "warn"),
        ("controller node", 0o600, "neither read nor write", "warn"),
    ],
)
def test_a_node_of_somebody_else(
    target: str, nodes: list[str], open_to_all: Checks, which: str, mode: int, may: str, verdict: str
) -> None:
    """Whose node it is and what this user may do with it; the one who owns it may open it. To read takes the namespace's only."""
    if kernel_version() < (6, 2):  # where it does not open at all
        verdict = "fail"
    path = nodes[which == "controller node"]
    with modes(mode, path):
        checks = doctor(target, UNPRIVILEGED)
        assert changes(open_to_all, checks) == {which: verdict}
        assert f"uid {NOBODY} may {may}; it belongs to uid 0, gid 0, mode 0{mode:o}" in checks[which]["found"]
        assert f"setfacl -m u:{NOBODY}:rw {path}" in checks[which]["remedy"]
        os.chown(path, NOBODY, NOBODY)
        try:
            os.chmod(path, 0o600)
            assert changes(open_to_all, doctor(target, UNPRIVILEGED)) == {}
        finally:
            os.chown(path, 0, 0)


def test_commands_of_users_without_rights(target: str, healthy: Checks, open_to_all: Checks) -> None:
    """Before Linux 6.2 only root's commands pass; from then on those of anybody who may write to the nodes."""
    if kernel_version() < (6, 2):
        assert changes(healthy, open_to_all) == {"privileges": "fail"}
        assert "Linux 6.2" in open_to_all["privileges"]["remedy"]
        assert open_to_all["open"]["remedy"] == "first privileges"
    else:
        assert changes(healthy, open_to_all) == {"privileges": "warn"}
        assert open_to_all["read"]["verdict"] == "ok"
    assert "root" in open_to_all["privileges"]["remedy"]


def test_a_namespace_in_use(target: str, healthy: Checks) -> None:
    """Who has its block device is named; reading it is no trouble."""
    block = f"/dev/{find(Path(target)).block_name}"
    fd = os.open(block, os.O_RDONLY | os.O_EXCL)
    try:
        checks = doctor(target)
        assert changes(healthy, checks) == {"in use": "warn"}
        assert f"{block} or a partition is held exclusively" in checks["in use"]["found"]
        assert "force=True" in checks["in use"]["remedy"]
    finally:
        os.close(fd)
    assert changes(healthy, doctor(target)) == {}


@WHICH_NODE
def test_a_container_without_the_node(target: str, nodes: list[str], healthy: Checks, which: str) -> None:
    """A node that is not there, and the namespace is: the node made anew mends it."""
    path = nodes[which == "controller node"]
    device = os.stat(path).st_rdev
    with instead(path, lambda: None):
        checks = doctor(target)
        # A namespace opens without its controller's node.
        assert changes(healthy, checks) == {which: "fail" if which == "namespace node" else "warn"}
        assert checks[which]["found"].startswith(path)
        assert "[ENOENT]" in checks[which]["found"]
        assert "--device" in checks[which]["remedy"]
        assert which != "namespace node" or checks["open"]["remedy"] == f"first {which}"
        os.mknod(path, 0o600 | stat.S_IFCHR, device)
        assert changes(healthy, doctor(target)) == {}


NULL = os.makedev(1, 3)


@pytest.mark.parametrize(
    ("which", "make", "words"),
    [
        ("namespace node", lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, NULL), "is device 1:3, and the kernel's"),
        ("controller node", os.mkdir, "is a folder"),
    ],
    ids=["stale", "folder"],
)
def test_something_else_in_the_place_of_a_node(
    target: str, nodes: list[str], healthy: Checks, which: str, make: Callable[[str], None], words: str
) -> None:
    """What a container makes of a device that was another one at its start, or none, is not taken for the device."""
    path = nodes[which == "controller node"]
    with instead(path, lambda: make(path)):
        checks = doctor(target)
    assert changes(healthy, checks) == {which: "fail"}
    assert f"{path} {words}" in checks[which]["found"]
    assert "--device" in checks[which]["remedy"]


def test_a_control_group_without_the_device(target: str, nodes: list[str], healthy: Checks, tmp_path: Path) -> None:
    """A node that its mode opens to root, and the container's control group does not; allowing both devices mends it."""
    subprocess.run(["mount", "-t", "cgroup", "-o", "devices", "none", tmp_path], check=True)
    box = tmp_path / "box"
    box.mkdir()
    try:
        numbers = [f"c {os.major(os.stat(path).st_rdev)}:{os.minor(os.stat(path).st_rdev)} rw" for path in nodes]
        for number in numbers:
            (box / "devices.deny").write_text(number)
        checks = doctor(target, f"cgroup={box}")
        assert changes(healthy, checks) == {"namespace node": "fail", "controller node": "fail"}
        for name, path in zip(("namespace node", "controller node"), nodes, strict=True):
            assert checks[name]["found"].startswith(f"{path}: Operation not permitted [EPERM]")
            assert (
                f"control group of this container or unit does not have the device: --device {path}"
                in checks[name]["remedy"]
            )
            assert f"DeviceAllow={path} rw" in checks[name]["remedy"]
        for number in numbers:
            (box / "devices.allow").write_text(number)
        assert changes(healthy, doctor(target, f"cgroup={box}")) == {}
    finally:
        box.rmdir()
        subprocess.run(["umount", tmp_path], check=True)


def test_a_node_where_no_device_can_be_opened(target: str, healthy: Checks, tmp_path: Path) -> None:
    """A node on a file system mounted with nodev; without that it opens."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev", "none", tmp_path], check=True)
    try:
        copy = tmp_path / Path(target).name
        os.mknod(copy, 0o600 | stat.S_IFCHR, os.stat(target).st_rdev)
        checks = doctor(str(copy))
        assert changes(healthy, checks) == {"namespace node": "fail"}
        assert "mounted with nodev" in checks["namespace node"]["remedy"]
        subprocess.run(["mount", "-o", "remount,dev", tmp_path], check=True)
        assert changes(healthy, doctor(str(copy))) == {}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("nsid", "words"),
    [
        (3, "the format has none"),
        (5, "8 bytes a block in a buffer of their own; integrity profile T10-DIF-TYPE1-CRC"),
        (6, "8 bytes a block in a buffer of their own; integrity profile nop"),
        (7, "8 bytes follow each block in the same buffer: 520 bytes a block"),
    ],
)
def test_metadata(nsid: int, words: str) -> None:
    """Where a namespace's metadata is: in a buffer of its own with the kernel's integrity profile, or beside the data."""
    metadata = doctor(node(nsid))["metadata"]
    assert metadata["verdict"] == "ok"
    assert metadata["found"].startswith(words)
    if nsid == 7:
        block = find(Path(node(nsid))).block_name
        assert Path("/sys/class/block", block, "size").read_text() == "0\n"
        assert metadata["found"].endswith(f"{block} is empty, for the block layer cannot do this")


@pytest.mark.parametrize("profile", [None, "none"], ids=["no-folder", "no-profile"])
@pytest.mark.parametrize("nsid", [5, 6])
def test_a_kernel_that_passes_no_metadata(nsid: int, profile: str | None) -> None:
    """Where sysfs shows no integrity of a format with metadata apart, that is blamed, and not the read that it makes impossible:
    nsid 5 has protection information only, which the controller makes and strips, so that its blocks can be read all the same."""
    healthy, target = doctor(node(3)), node(nsid)
    with sysfs_without_integrity(target, profile):
        checks = doctor(target)
    assert changes(healthy, checks) == {"metadata": "warn"}
    block = find(Path(target)).block_name
    assert checks["metadata"]["found"].startswith("8 bytes a block in a buffer of their own")
    assert f"{block} has no integrity profile: the kernel passes no metadata" in checks["metadata"]["found"]
    assert "CONFIG_BLK_DEV_INTEGRITY" in checks["metadata"]["remedy"]
    assert "nvme format" in checks["metadata"]["remedy"]
    if nsid == 6:
        assert checks["read"]["remedy"] == "first metadata"
        assert "its metadata cannot be passed" in checks["read"]["found"]
    else:
        assert checks["read"]["verdict"] == "ok"
    if profile is not None:
        assert changes(healthy, doctor(target)) == {}


def test_more_data_than_the_kernel_passes(target: str, healthy: Checks) -> None:
    """A controller that takes more in a command than Linux asks for: which limit is whose."""
    checks = doctor(node(1, "nvme4"))
    assert changes(healthy, {name: check for name, check in checks.items() if name != "paths"}) == {"transfers": "warn"}
    kernel_kb = max(
        int(file.read_text()) for file in Path("/sys/class/block").glob("nvme*c*n1/queue/max_hw_sectors_kb")
    )
    assert (
        f"the controller takes {64 << 10} KiB (MDTS), the kernel passes {kernel_kb} KiB" in checks["transfers"]["found"]
    )
    assert "submit()" in checks["transfers"]["remedy"]
    assert "the controller takes 512 KiB (MDTS), the kernel passes 512 KiB" in healthy["transfers"]["found"]


def test_a_path_that_is_gone() -> None:
    """Two paths are fine, and so is the one that is left; one that takes no more commands but is still there is not."""
    several = node(1, "nvme4")
    healthy = doctor(several)
    here = sorted(path.name for path in find(Path(several)).paths)
    for name in here:
        assert re.search(rf"{name} \(0000:[0-9a-f:.]+\) live", healthy["paths"]["found"])
    gone, left = here
    address = pci_address(Path("/sys/class/nvme", gone))
    fd = os.open(f"/dev/{gone}", os.O_RDWR)  # the kernel keeps a controller for as long as somebody has it open
    try:
        unbind(address)
        checks = doctor(several)
        assert changes(healthy, checks) == {"paths": "warn"}
        assert f"{gone} removed" in checks["paths"]["found"]
        assert f"why {gone} does not answer" in checks["paths"]["remedy"]
        assert checks["read"]["verdict"] == "ok"
        os.close(fd)
        checks = doctor(several)
        assert changes(healthy, checks) == {}
        assert gone not in checks["paths"]["found"]
        assert f"admin commands go to {left}" in checks["paths"]["found"]
    finally:
        bind(address, "nvme4")
    until(lambda: len([path for path in find(Path(several)).paths if path.state == "live"]) == 2)
    assert changes(healthy, doctor(several)) == {}


def test_no_such_namespace(healthy: Checks) -> None:
    """A namespace that neither /dev nor the kernel has, as text."""
    status, shown = page("doctor", "/dev/ng42n7")
    assert status == 1
    assert "no such device" in shown
    assert "aionvme list" in shown
    checks = doctor("/dev/ng42n7")
    assert changes(healthy, checks) == {"device": "fail"}


def test_a_trap_as_text(target: str) -> None:
    """A run of its own as text shows what one with --json says: the check, its cause and its remedy."""
    limits = f"errno={errno.EPERM}"
    status, shown = page("doctor", target, limits=limits)
    words = folded(shown)
    assert status == 1
    assert "1 check failed" in words
    for part in ("found", "remedy"):
        assert folded(doctor(target, limits)["io_uring"][part]) in words


def carry_out_sysctl(remedy: str) -> None:
    """Do what a remedy says with ``sysctl -w``."""
    found = re.search(r"sysctl -w (\S+)=(\d+)", remedy)
    assert found is not None
    Path("/proc/sys", found[1].replace(".", "/")).write_text(found[2])
