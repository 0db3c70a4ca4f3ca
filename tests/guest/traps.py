"""What gets in the way of passthrough, made and unmade in the guest; and the doctor, as somebody in such a place runs it."""

import io
import json
import os
import signal
import stat
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aionvme.cli import doctor_command, main
from aionvme.devices import find
from aionvme.doctor import Check, Diagnosis, diagnose
from tests.cli.confined import confine
from tests.conftest import node

NOBODY = 65534

Checks = dict[str, dict[str, str]]


def in_child(work: Callable[[], str]) -> str:
    """What ``work`` gives in a process of its own, where it may give up whatever it likes."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            with open(writing, "w") as file:
                file.write(work())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    try:
        with open(reading) as file:
            text = file.read()
    except BaseException:  # a timeout: what it has open must not outlive the test
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert os.waitpid(pid, 0)[1] == 0, text
    return text


def limit(limits: str) -> None:
    """Give up what ``limits`` say: those of tests/cli/confined.py, and ``cgroup=FOLDER``."""
    for each in limits.split(","):
        if each.startswith("cgroup="):
            Path(each.removeprefix("cgroup="), "cgroup.procs").write_text(str(os.getpid()))
    confine(limits)


def shown_by(*arguments: str) -> tuple[int, str]:
    """The exit status of a command, and what it shows."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        status = main(list(arguments))
    return status, shown.getvalue()


def page(*arguments: str, limits: str = "") -> tuple[int, str]:
    """The same in a process that may do less."""

    def work() -> str:
        limit(limits)
        return json.dumps(shown_by(*arguments))

    status, shown = json.loads(in_child(work))
    return status, shown


def diagnose_once() -> None:
    """From here on this process looks at things once; after it has shown all that it found, it shows what is not ok of that.

    Laying out a page takes an emulated machine as long as a diagnosis, so those that are ok are left out of it.
    """
    found: list[Diagnosis] = []

    async def once(target: str | Path | None = None) -> Diagnosis:
        if found:
            return found[0]
        diagnosis = await diagnose(target)
        targets = tuple(replace(each, checks=flaws(each.checks)) for each in diagnosis.targets)
        found.append(replace(diagnosis, machine=flaws(diagnosis.machine), targets=targets))
        return diagnosis

    def flaws(checks: tuple[Check, ...]) -> tuple[Check, ...]:
        return tuple(check for check in checks if check.verdict != "ok")

    pytest.MonkeyPatch().setattr(doctor_command, "diagnose", once)


READ: set[str] = set()
"""What was found wrong, and has been held against the text for people."""


def doctor(target: str, limits: str = "") -> Checks:
    """The checks of the machine and of a target, by name. Whatever is not ok has once been found to be the same as text."""

    def work() -> str:
        limit(limits)
        diagnose_once()
        answers = [shown_by("doctor", target, "--json")]
        if json.dumps(wrong(checks_of(answers[0][1]))) not in READ:
            answers.append(shown_by("doctor", target))
        return json.dumps(answers)

    (status, shown), *texts = json.loads(in_child(work))
    checks = checks_of(shown)
    failed = [name for name, check in checks.items() if check["verdict"] == "fail"]
    assert status == bool(failed), checks
    assert json.loads(shown)["failed"] == len(failed)
    for check in checks.values():
        assert check["verdict"] == "ok" or check["remedy"], check
    for status_of_text, text in texts:
        assert status_of_text == status
        compare_with_text(checks, text)
        READ.add(json.dumps(wrong(checks)))
    return checks


def checks_of(shown: str) -> Checks:
    """The checks in a document about one target."""
    document: dict[str, Any] = json.loads(shown)
    (found,) = document["targets"]
    return {check["name"]: check for check in [*document["machine"], *found["checks"]]}


def wrong(checks: Checks) -> list[dict[str, str]]:
    """Those that are not ok."""
    return [check for check in checks.values() if check["verdict"] != "ok"]


def compare_with_text(checks: Checks, text: str) -> None:
    """Each check that is not ok has a line, and one for its remedy; the last line counts those that failed."""
    words = folded(text)
    for check in wrong(checks):
        assert folded("{verdict} {name} {found} -> {remedy}".format(**check)) in words, check
    failed = sum(check["verdict"] == "fail" for check in checks.values())
    conclusion = f"{failed} check{'s' * (failed > 1)} failed." if failed else "Nothing is broken."
    assert text.splitlines()[-1].startswith(conclusion)


def folded(text: str) -> str:
    """Words, one space between them."""
    return " ".join(text.split())


def changes(healthy: Checks, checks: Checks) -> dict[str, str]:
    """The checks that got another verdict, without those that are only not to be had before another one is mended."""
    found = {}
    for name, check in checks.items():
        was = healthy[name]["verdict"] if name in healthy else "missing"
        if check["verdict"] == was or (check["verdict"] == "absent" and check["remedy"].startswith("first ")):
            continue
        found[name] = check["verdict"]
    return found


def controller(target: str) -> Path:
    """The sysfs folder of the controller of a namespace, of the first one if it has several."""
    return Path("/sys/class/nvme", find(Path(target)).controller.name)


def pci_address(folder: Path) -> str:
    """Where a controller is plugged in."""
    return (folder / "address").read_text().strip()


def bind_again(address: str, serial: str) -> None:
    """Take a controller from the driver and give it back; until its namespace is there again."""
    unbind(address)
    bind(address, serial)


def unbind(address: str) -> None:
    """Take a controller from the driver."""
    Path("/sys/bus/pci/drivers/nvme/unbind").write_text(address)


def bind(address: str, serial: str) -> None:
    """Give a controller back to the driver; until a namespace of it can be opened."""
    Path("/sys/bus/pci/drivers/nvme/bind").write_text(address)
    until(lambda: Path(node(1, serial)).exists())


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel does in its own time."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(LookupError, OSError):
            if condition():
                return
        time.sleep(0.02)
    raise TimeoutError


@contextmanager
def modes(mode: int, *nodes: str | Path) -> Iterator[None]:
    """Device nodes with another mode for a while."""
    before = {path: stat.S_IMODE(os.stat(path).st_mode) for path in nodes}
    for path in nodes:
        os.chmod(path, mode)
    try:
        yield
    finally:
        for path, was in before.items():
            os.chmod(path, was)


@contextmanager
def instead(path: str | Path, make: Callable[[], object]) -> Iterator[None]:
    """A node moved aside for a while, with what ``make`` makes in its place."""
    aside = f"{path}-aside"
    os.rename(path, aside)
    try:
        make()
        yield
    finally:
        with suppress(FileNotFoundError):
            if os.path.isdir(path):
                os.rmdir(path)
            else:
                os.unlink(path)
        os.rename(aside, path)


@contextmanager
def setting(path: str | Path, value: str) -> Iterator[None]:
    """A sysctl or a driver's parameter with another value for a while."""
    before = Path(path).read_text()
    Path(path).write_text(value)
    try:
        yield
    finally:
        Path(path).write_text(before)


@contextmanager
def sysfs_without_integrity(target: str, profile: str | None) -> Iterator[None]:
    """For a while sysfs says of a namespace what a kernel says that passes no metadata.

    Of one built without BLK_DEV_INTEGRITY (``profile`` None) there is no folder of that name: here it is empty, for sysfs takes
    none away; such a kernel itself needs nothing. One that has no profile for the format says "none".
    """
    integrity = Path("/sys/class/block", find(Path(target)).block_name, "integrity")
    if profile is None and not integrity.exists():
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "none", integrity], check=True)
    try:
        if profile is not None:
            (integrity / "format").write_text(f"{profile}\n")
        yield
    finally:
        subprocess.run(["umount", integrity], check=True)
