"""The doctor finds real causes: what it is shown is really forbidden, missing or too small."""

import errno
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import aionvme
from aionvme import devices, privileges
from aionvme.cli import main
from aionvme.doctor import process, rings
from aionvme.doctor.nodes import node as node_check
from aionvme.doctor.target import metadata, paths
from aionvme.errors import os_error
from aionvme.queues.polled import why_not_polled
from aionvme.queues.raw import why_not_raw
from aionvme.queues.ring import SETUP_CAUSES

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def checks_of(diagnosed: dict[str, Any], target: str | None = None) -> dict[str, dict[str, str]]:
    """The checks of the machine or of a target, by name."""
    checks = diagnosed["machine"]
    if target is not None:
        (checks,) = (found["checks"] for found in diagnosed["targets"] if found["target"] == target)
    return {check["name"]: check for check in checks}


def test_every_flaw_has_a_remedy(run: Run) -> None:
    """Whatever is not ok says what to do, whatever machine this is; the exit status counts the failures."""
    finished = run("doctor", "--json")
    diagnosed = json.loads(finished.stdout)
    failed = [check for check in diagnosed["machine"] if check["verdict"] == "fail"]
    assert finished.returncode == bool(diagnosed["failed"])
    assert len(failed) <= diagnosed["failed"]
    assert all(check["found"] for check in diagnosed["machine"])
    assert all(check["remedy"] for check in diagnosed["machine"] if check["verdict"] != "ok")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_io_uring_behind_seccomp(run: Run, number: int) -> None:
    """A filter that forbids or hides io_uring is told from a sysctl that switches it off."""
    finished = run("doctor", "--json", limits=f"errno={number}")
    assert finished.returncode == 1, finished.stderr
    checks = checks_of(json.loads(finished.stdout))
    assert checks["io_uring"]["verdict"] == "fail"
    assert SETUP_CAUSES[number] in checks["io_uring"]["found"]
    assert errno.errorcode[number] in checks["io_uring"]["found"]
    disabled = Path("/proc/sys/kernel/io_uring_disabled")
    if number == errno.ENOSYS or not disabled.exists() or disabled.read_text().strip() == "0":
        assert "runs under a seccomp filter" in checks["io_uring"]["remedy"]
        assert "io_uring_setup" in checks["io_uring"]["remedy"]
    assert checks["big entries"]["verdict"] == checks["polling"]["verdict"] == "absent"


def test_io_uring_behind_a_filter_that_calls_it_invalid(run: Run) -> None:
    """EINVAL for any ring at all is not taken for an old kernel's."""
    finished = run("doctor", "--json", limits=f"errno={errno.EINVAL}")
    assert finished.returncode == 1, finished.stderr
    checks = checks_of(json.loads(finished.stdout))
    assert checks["io_uring"]["verdict"] == "fail"
    assert "even a ring without big entries is refused [EINVAL]" in checks["io_uring"]["found"]
    assert "runs under a seccomp filter" in checks["io_uring"]["remedy"]
    assert checks["big entries"]["verdict"] == "absent"


BIG_ENTRIES = 1 << 10 | 1 << 11
"""IORING_SETUP_SQE128 and _CQE32 (linux/io_uring.h), of Linux 5.19."""
DEFER_TASKRUN = 1 << 13
"""Of Linux 6.1."""


@pytest.mark.parametrize(
    ("flags", "flaws"),
    [
        (BIG_ENTRIES, {"big entries": "fail", "polling": "absent"}),
        (DEFER_TASKRUN, {"polling": "warn"}),
    ],
    ids=["Linux 5.15", "Linux 5.19"],
)
def test_rings_of_an_older_kernel(run: Run, flags: int, flaws: dict[str, str]) -> None:
    """A kernel that does not know flags of the ring: the check of what needs them says so, and what still works is ok."""
    if _ring_is_forbidden():
        pytest.skip("this machine has no io_uring")
    finished = run("doctor", "--json", limits=f"flags={flags}")
    assert finished.returncode == ("fail" in flaws.values()), finished.stderr
    checks = checks_of(json.loads(finished.stdout))
    three = ("io_uring", "big entries", "polling")
    assert {name: checks[name]["verdict"] for name in three if checks[name]["verdict"] != "ok"} == flaws


def test_page_without_io_uring(run: Run) -> None:
    """People read the same, and that the emulator still works."""
    finished = run("doctor", limits=f"errno={errno.EPERM}")
    assert finished.returncode == 1
    assert "1 check failed" in finished.stdout
    assert "'emu:zns'" in finished.stdout.splitlines()[-1]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_demo_without_io_uring(run: Run, number: int) -> None:
    """The emulated device needs no ring at all."""
    finished = run("demo", "--json", limits=f"errno={number},nobody,memlock=0")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["verified"] is True


def test_small_memlock(run: Run) -> None:
    """An unprivileged user who may lock nothing is warned; it is no failure, commands go without registration."""
    finished = run("doctor", "--json", limits="memlock=0,nobody")
    memlock = checks_of(json.loads(finished.stdout))["memlock"]
    assert memlock["verdict"] == "warn"
    assert "RLIMIT_MEMLOCK is 0 KiB" in memlock["found"]
    assert "ulimit -l" in memlock["remedy"]


def test_the_same_limit_with_this_users_capabilities(run: Run) -> None:
    """The same limit is nothing to a process with CAP_IPC_LOCK, root's, and a warning to one without."""
    memlock = checks_of(json.loads(run("doctor", "--json", limits="memlock=0").stdout))["memlock"]
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert effective is not None
    lifted = bool(int(effective[1], 16) >> 14 & 1)  # CAP_IPC_LOCK, linux/capability.h
    assert memlock["verdict"] == ("ok" if lifted else "warn")
    assert ("CAP_IPC_LOCK lifts it" in memlock["found"]) == lifted


@pytest.mark.parametrize(
    ("disabled", "group", "words"),
    [
        ("2", "-1", "off for everybody: sysctl -w kernel.io_uring_disabled=0"),
        ("1", "-1", "name a group in kernel.io_uring_group"),
        ("1", "4242", "join the group with id 4242"),
        ("0", "-1", "no seccomp filter is at work"),
        (None, None, "this kernel has no sysctl"),
    ],
)
def test_causes_of_eperm(
    disabled: str | None,
    group: str | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The remedy follows from the sysctls and from this process's own status."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text("CapEff:\t0000000000000000\nSeccomp:\t0\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    for name, value in (("io_uring_disabled", disabled), ("io_uring_group", group)):
        if value is not None:
            (tmp_path / "sys/kernel" / name).write_text(value + "\n")
    monkeypatch.setattr(privileges, "PROC", tmp_path)
    monkeypatch.setattr(process, "PROC", tmp_path)
    fail_rings(monkeypatch, errno.EPERM)
    assert main(["doctor", "--json"]) == 1
    io_uring = checks_of(json.loads(capsys.readouterr().out))["io_uring"]
    assert io_uring["verdict"] == "fail"
    assert words in io_uring["remedy"]


def test_old_kernel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """EINVAL means that io_uring is there, without big entries; the version says what a newer one brings."""
    fail_rings(monkeypatch, errno.EINVAL)
    monkeypatch.setattr(rings, "_plain_ring", lambda: 0)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "5.15.0-91-generic", "", "x86_64")))
    assert main(["doctor", "--json"]) == 1
    checks = checks_of(json.loads(capsys.readouterr().out))
    assert checks["kernel"]["verdict"] == "warn"
    assert "5.19" in checks["kernel"]["remedy"]
    assert checks["io_uring"]["verdict"] == "ok"
    assert checks["big entries"]["verdict"] == "fail"
    assert SETUP_CAUSES[errno.EINVAL] in checks["big entries"]["found"]


def test_emulated_target(capsys: pytest.CaptureFixture[str]) -> None:
    """An emulated namespace is opened and read like any other, where this machine can do nothing else."""
    main(["doctor", "emu:zns", "--json"])
    diagnosed = json.loads(capsys.readouterr().out)
    checks = checks_of(diagnosed, "emu:zns")
    assert {name: check["verdict"] for name, check in checks.items()} == {"open": "ok", "queue": "ok", "read": "ok"}
    assert diagnosed["targets"][0]["queue"] == {
        "kind": "emulated",
        "depth": 64,
        "why_not": {},
        "detour": "",
        "sqpoll": False,
    }


@pytest.mark.parametrize("target", ["/dev/null", "/dev/ng99n9", "emu:zns?zones=0", "emu:tape", "/tmp"])
def test_unusable_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A target that cannot be opened is a failed check with a remedy, and the machine is looked at all the same."""
    assert main(["doctor", target, "--json"]) == 1
    diagnosed = json.loads(capsys.readouterr().out)
    (check,) = checks_of(diagnosed, target).values()
    assert check["verdict"] == "fail"
    assert check["remedy"]
    assert diagnosed["targets"][0]["queue"] is None
    assert "kernel" in checks_of(diagnosed)


def test_device_without_nodes(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace the kernel has and /dev has not: said of both nodes, and each reason is the one opening gives."""
    assert main(["doctor", "--json"]) == 1
    diagnosed = json.loads(capsys.readouterr().out)
    machine = checks_of(diagnosed)
    assert machine["poll queues"]["verdict"] == "warn"
    assert "nvme.poll_queues=2" in machine["poll queues"]["remedy"]
    assert machine["namespaces"]["found"] == "/dev/ng7n1"
    checks = checks_of(diagnosed, "/dev/ng7n1")
    for name, node in (("namespace node", "/dev/ng7n1"), ("controller node", "/dev/nvme7")):
        assert checks[name]["verdict"] == "fail"
        assert node in checks[name]["found"]
        assert "--device" in checks[name]["remedy"]
    assert checks["open"]["verdict"] == "absent"
    assert checks["open"]["remedy"].endswith("namespace node, controller node")


def test_device_that_takes_no_commands(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/null in the place of a namespace: its nodes and limits are as told, opening it fails with the kernel's word."""
    stand_in(sysfs)
    assert main(["doctor", "/dev/null", "--json"]) == 1
    checks = checks_of(json.loads(capsys.readouterr().out), "/dev/null")
    device = devices.find(Path("/dev/null"))
    assert checks["namespace node"]["verdict"] == "ok"
    assert checks["limits"]["found"] == "max_hw_sectors_kb 512, max_segments 127, nr_requests 1023"
    assert checks["polled queue"]["found"] == why_not_polled(device)
    assert checks["raw queue"]["found"] == why_not_raw(device)
    assert checks["open"]["verdict"] == "fail"


def test_short_queue(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A device with few requests and with poll queues: both are found, neither is a fault."""
    stand_in(sysfs)
    (sysfs / "class/block/nvme7n1/queue/nr_requests").write_text("31\n")
    (sysfs / "class/block/nvme7n1/queue/io_poll").write_text("1\n")
    main(["doctor", "/dev/null", "--json"])
    checks = checks_of(json.loads(capsys.readouterr().out), "/dev/null")
    assert checks["limits"]["verdict"] == "ok"
    assert "nr_requests 31" in checks["limits"]["found"]
    assert checks["polled queue"]["verdict"] in ("ok", "absent" if _ring_is_forbidden() else "ok")


@pytest.mark.parametrize(
    ("states", "verdict", "words"),
    [
        (
            ("live", "live"),
            "ok",
            "nvme2 (traddr=10.0.0.2) live; nvme3 (traddr=10.0.0.3) live; admin commands go to nvme2",
        ),
        (("connecting", "live"), "warn", "nvme2 (traddr=10.0.0.2) connecting; nvme3 (traddr=10.0.0.3) live"),
        (("connecting", "resetting"), "fail", "nvme3 (traddr=10.0.0.3) resetting"),
    ],
)
def test_paths(sysfs: Path, states: tuple[str, str], verdict: str, words: str) -> None:
    """Paths that are not live are named, and admin commands go over one that is; it is a failure where there is none."""
    subsystem = sysfs / "class/nvme-subsystem/nvme-subsys3"
    for number, state in zip((2, 3), states, strict=True):
        path = subsystem / f"nvme{number}"
        path.mkdir(parents=True)
        (path / "state").write_text(f"{state}\n")
        (path / "address").write_text(f"traddr=10.0.0.{number}\n")
    (subsystem / "nvme3n1").mkdir()
    (sysfs / "class/nvme-generic/ng3n1").mkdir()
    (sysfs / "class/nvme-generic/ng3n1/device").symlink_to(subsystem)
    device = next(device for device in devices.generic_devices() if device.name == "ng3n1")
    assert device.controller == Path("/dev", "nvme3" if states == ("connecting", "live") else "nvme2")
    check = paths(device)
    assert check.verdict == verdict
    assert words in check.found
    assert all(f"nvme{2 + i}" in check.remedy for i in range(2) if states[i] != "live")


@pytest.mark.parametrize(("profile", "verdict"), [("none", "warn"), (None, "warn"), ("nop", "ok")])
def test_metadata_without_an_integrity_profile(sysfs: Path, profile: str | None, verdict: str) -> None:
    """Metadata in a buffer of its own passes only where the block device has an integrity profile."""
    if profile is not None:
        (sysfs / "class/block/nvme7n1/integrity").mkdir()
        (sysfs / "class/block/nvme7n1/integrity/format").write_text(profile + "\n")
    identified = SimpleNamespace(identify=SimpleNamespace(ms=8, extended_lba=False), lba_size=512)
    check = metadata(devices.generic_devices()[0], cast(aionvme.Namespace, identified))
    assert check.verdict == verdict
    assert ("CONFIG_BLK_DEV_INTEGRITY" in check.remedy) == (verdict == "warn")


def test_permissions() -> None:
    """A node this user may not open: whose it is, and the command that helps."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        node = directory / "ng0n1"
        node.touch()
        owner, group = node.stat().st_uid, node.stat().st_gid
        node.chmod(0o000)
        with as_somebody_without_rights() as uid:
            secret = node_check("namespace node", node)
        node.chmod(0o444)
        with as_somebody_without_rights():
            readable = node_check("namespace node", node)
    assert secret.verdict == readable.verdict == "fail"
    belongs = f"it belongs to uid {owner}, gid {group}, mode 0000"
    assert f"uid {uid} may neither read nor write; {belongs}" in secret.found
    assert f"uid {uid} may read only" in readable.found
    assert f"setfacl -m u:{uid}:rw {node}" in secret.remedy


@contextmanager
def as_somebody_without_rights() -> Iterator[int]:
    """Root is nobody for a while; anybody else is bound by a node's mode as it is."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    os.seteuid(65534)
    try:
        yield 65534
    finally:
        os.seteuid(0)


def fail_rings(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Have the kernel refuse every ring."""

    def refuse() -> None:
        raise os_error(number, "setting up an io_uring", SETUP_CAUSES)

    monkeypatch.setattr(rings, "_try_ring", refuse)


def stand_in(sysfs: Path) -> None:
    """Make /dev/null the character device of the namespace."""
    status = Path("/dev/null").stat()
    link = sysfs / f"dev/char/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../class/nvme-generic/ng7n1")
    (sysfs / "class/nvme-generic/ng7n1/device").unlink()
    (sysfs / "class/nvme-generic/ng7n1/device").symlink_to("../../nvme/null")
    (sysfs / "class/nvme/null").mkdir()


def _ring_is_forbidden() -> bool:
    try:
        rings._try_ring()
    except OSError:
        return True
    return False
