"""The examples run as they are, on whatever device there is."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    """The output of an example."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hello(place: Place) -> None:
    """The block that was written is greeted back."""
    assert run("hello.py", place.nvm_512).endswith("hello, NVMe\n")


@pytest.mark.parametrize("name", ["zone_append.py", "zone_append_trio.py"])
def test_zone_append(place: Place, name: str) -> None:
    """Sixteen tasks are told sixteen LBAs, from the start of the zone without a gap."""
    lines = run(name, place.zns).splitlines()
    assert sorted(int(line.split()[4].rstrip(":"), 16) for line in lines[:-1]) == list(range(16))
    assert lines[-1] == "zone 0 is IMPLICITLY_OPENED, its write pointer at 0x10"


def test_any_opcode(place: Place) -> None:
    """Each completion is printed with its status."""
    lines = run("any_opcode.py", place.nvm_4096).splitlines()
    assert [
        name in line
        for name, line in zip(("Successful", "Compare Failure", "Successful", "Opcode"), lines, strict=True)
    ]
