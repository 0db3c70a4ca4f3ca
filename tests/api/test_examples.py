"""The examples run as they are, on whatever device there is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_append_or_write(place: Place) -> None:
    """Each of the four curves has a rate at every number of tasks, and no command is anywhere but where its result said."""
    lines = run("append_or_write.py", place.zns).splitlines()
    rows = [line.replace(",", "").split() for line in lines[2:-1]]
    assert [row[0] for row in rows] == ["1", "4", "16"]
    assert all(len(row) == 5 and min(map(float, row[1:])) > 0 for row in rows)
    assert lines[-1].endswith(" commands, each found where its result said that it is")


def test_zone_parallelism(place: Place) -> None:
    """One zone takes the 192 appends of 16 KiB that are 3 MiB, four take 128 each; sixteen may not be open at a time."""
    lines = run("zone_parallelism.py", place.zns).splitlines()
    (row,) = lines[2:-1]
    assert row.split()[:2] == ["this", "device"]
    rates = [float(word) for word in row.split()[2:]]
    assert len(rates) == 2
    assert min(rates) > 0
    assert lines[-1] == f"{192 + 4 * 128} appends, each found where its result said that it is"


def test_kv_store(place: Place) -> None:
    """Those keys have a value whose last change was no fiftieth one, and what is written is at least what was put."""
    lines = run("kv_store.py", place.zns).splitlines()
    rows = [line.split() for line in lines[1:-1]]
    assert [row[0] for row in rows] == ["50%", "50%"]
    for *_, keys, amplification, rate in rows:
        assert int(keys) == keys_left(round(0.5 * 10 * 32))
        assert float(amplification) >= 1
        assert float(rate) > 0
    assert lines[-1] == "every key had its newest value, also after recovery from the zones alone"


def keys_left(n: int) -> int:
    """How many of n keys have a value after the changes of the example, whose every fiftieth is a deletion."""
    random = np.random.default_rng(1)
    popularity = 1 / random.permutation(np.arange(1, n + 1)) ** 0.99
    last = np.arange(n)
    for version, key in enumerate(random.choice(n, 10 * 32, p=popularity / popularity.sum()), n):
        last[key] = version
    return int((last % 50 != 0).sum())


def test_tensor_cache(place: Place) -> None:
    """Hits and evictions are those of a cache of four times 64 keys that forgets the oldest 64 when it is full."""
    lines = run("tensor_cache.py", place.zns).splitlines()
    rows = [line.split() for line in lines[1:-1]]
    assert [row[0] for row in rows] == ["4", "32", "128"]
    for batch, hit_rate, evicted, *rates in rows:
        hits, forgotten = first_in_first_out(int(batch))
        assert (hit_rate, int(evicted)) == (f"{hits / 1024:.1%}", forgotten)
        assert len(rates) == 3
        assert min(map(float, rates)) > 0
    assert lines[-1] == "every tensor was the one that was asked for"


def first_in_first_out(batch: int) -> tuple[int, int]:
    """Of the keys that the example asks for, how many are there, and how many were forgotten in the end."""
    random = np.random.default_rng(1)
    popularity = 1 / np.arange(1, 1025)
    kept: list[int] = []
    hits = forgotten = 0
    for _ in range(1024 // batch):
        asked = random.choice(1024, batch, replace=False, p=popularity / popularity.sum()).tolist()
        missing = [key for key in asked if key not in kept]
        hits += batch - len(missing)
        for key in missing:
            if len(kept) == 256:
                kept = kept[64:]
                forgotten += 64
            kept.append(key)
    return hits, forgotten


def test_append_order(place: Place) -> None:
    """One at a time, appends lie and complete as they were submitted; however many there are, both readers have every byte."""
    lines = run("append_order.py", place.zns).splitlines()
    rows = [line.split() for line in lines[3:-1]]
    assert [row[0] for row in rows] == ["1", "8", "64"]
    assert rows[0][1:] == ["0.00%", "0"] * 3 + ["0"]
    sizes = np.random.default_rng(1).integers(1, (32 << 10) - 16, 100)[:96]
    assert lines[-1] == f"both readers have the stream: {sizes.sum()} bytes in 96 records"
