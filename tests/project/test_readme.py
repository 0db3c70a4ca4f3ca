"""What the README shows is run as it stands."""

import asyncio
import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aionvme

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
# Only what needs a machine of its own is not run here: a clone, and make (which runs this).
NOT_HERE = ("git clone ", "cd ", "make ", "apt install ", "pip install ")


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's programs first on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )


def test_there_is_something_to_run() -> None:
    """The README has Python and shell to execute."""
    assert PYTHON
    assert SHELL


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_python_blocks_run_and_print_what_they_say(number: int, tmp_path: Path) -> None:
    """Each Python block is a whole program; a comment behind a print says what it prints."""
    done = run([sys.executable, "-W", "error", "-c", PYTHON[number]], tmp_path)
    assert done.returncode == 0, done.stderr
    expected = re.findall(r"print\(.*\)  # (.+)$", PYTHON[number], re.MULTILINE)
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("line", [line for line in SHELL if not line.startswith(NOT_HERE)])
def test_shell_lines_run(line: str) -> None:
    """Each command succeeds."""
    done = run(["sh", "-c", line], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    """Each make command names a target that there is."""
    target = line.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


class Failing:
    """A namespace whose reads are given up: at LBA 0 once, at LBA 1 always; at LBA 2 they are interrupted."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def read(self, slba: int, nlb: int) -> bytes:
        """A read of so many blocks of one byte."""
        self.asked.append(slba)
        if self.asked == [0, 0]:
            return bytes(nlb)
        raise (OSError if slba == 2 else aionvme.CommandAbortedError)(errno.EINTR, "")


def test_the_retry_of_the_page_about_faults() -> None:
    """It tries again after what it names, gives up after so many tries, and lets everything else through at once."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"aionvme": aionvme, "asyncio": asyncio}
    exec(code, names)
    ns, read_again = Failing(), names["read_again"]
    assert asyncio.run(read_again(ns, 0, 3)) == bytes(3)
    with pytest.raises(aionvme.CommandAbortedError):
        asyncio.run(read_again(ns, 1, 1, tries=2))
    with pytest.raises(InterruptedError):
        asyncio.run(read_again(ns, 2, 1))
    assert ns.asked == [0, 0, 1, 1, 2]


def test_links_lead_somewhere() -> None:
    """Every relative link of the README and the documentation is a file."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
