"""What gets in the way of passthrough, made and unmade in the guest; and the doctor, as somebody in such a place runs it."""

import io
import json
import os
import signal
import stat
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from aionvme.cli import main
from aionvme.devices import find
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


def page(*arguments: str, limits: str = "") -> tuple[int, str]:
    """The exit status and what the command shows; ``limits`` are those of tests/cli/confined.py, and ``cgroup=FOLDER``."""

    def work() -> str:
        for limit in limits.split(","):
            if limit.startswith("cgroup="):
                Path(limit.removeprefix("cgroup="), "cgroup.procs").write_text(str(os.getpid()))
        confine(limits)
        shown = io.StringIO()
        with redirect_stdout(shown), redirect_stderr(shown):
            status = main(list(arguments))
        return f"{status}\n{shown.getvalue()}"

    status, _, shown = in_child(work).partition("\n")
    return int(status), shown


def doctor(target: str, limits: str = "") -> Checks:
    """The checks of the machine and of a target, by name."""
    status, shown = page("doctor", target, "--json", limits=limits)
    document: dict[str, Any] = json.loads(shown)
    (found,) = document["targets"]
    checks = {check["name"]: check for check in [*document["machine"], *found["checks"]]}
    failed = [name for name, check in checks.items() if check["verdict"] == "fail"]
    assert status == bool(failed), checks
    assert document["failed"] == len(failed)
    for check in checks.values():
        assert check["verdict"] == "ok" or check["remedy"], check
    return checks


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
