"""Two saved runs side by side: ratios, what differs, and what is no saved run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aionvme.cli import main
from tests.cli.conftest import on_terminal

GREEN, RED = "\x1b[32m", "\x1b[31m"


def point(depth: int, iops: float, p99: float | None, **other: Any) -> dict[str, Any]:
    """A point as bench keeps it, with figures of our own."""
    return {
        "pattern": "randread",
        "size_bytes": 4096,
        "nlb": 8,
        "depth": depth,
        "queue_kind": "polled",
        "queue_depth": depth,
        "commands": 1000,
        "seconds": 1.0,
        "iops": iops,
        "mb_per_s": iops * 4096 / 1e6,
        "latency_mean_us": 1,
        "latency_p50_us": 1.0,
        "latency_p99_us": p99,
        "latency_p99_9_us": 1.0,
        "latency_max_us": 1.0,
        "cpu_s_per_s": 0.5,
        "cpu_us_per_command": 1.0,
        "errors": 0,
        "first_error": None,
        "zone_resets": 0,
        "written_zones": None,
    } | other


def saved(file: Path, points: list[Any], **other: Any) -> str:
    """Keep a run in a file; the file's name."""
    document = {
        "schema": {"name": "aionvme-bench", "version": 1},
        "target": "/dev/ng0n1",
        "namespace": {"mn": "Example", "fr": "2", "lba_size": 512, "nsze": 1000, "zoned": False},
        "queue": {"kind": "polled", "why_not": {"raw": "no raw queues"}, "detour": ""},
        "machine": {"kernel": "6.12.1", "cpu": "Example CPU", "cpus": 8, "date": "2026-11-20T10:00:00+00:00"},
        "parameters": {"depths": [1, 8], "seconds": 1.0, "seed": 0, "await_each": False},
        "points": points,
        "incomplete": None,
    } | other
    file.write_text(json.dumps(document))
    return str(file)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """A, and B: on another kernel, twice as fast at depth 1, with three quarters of A's rate at depth 8."""
    a = saved(tmp_path / "a.json", [point(1, 10_000.0, 100.0), point(8, 80_000.0, 200.0), point(16, 90_000.0, 9.0)])
    machine = {"kernel": "6.18.0", "cpu": "Example CPU", "cpus": 8, "date": "2026-11-21T10:00:00+00:00"}
    b = saved(tmp_path / "b.json", [point(1, 20_000.0, 50.0), point(8, 60_000.0, 300.0)], machine=machine)
    return a, b


def test_ratios(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """B divided by A, for the points that both have; the rest are counted."""
    assert main(["compare", *runs, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    ratios = [(p["depth"], p["iops_ratio"], p["latency_p99_ratio"]) for p in document["points"]]
    assert ratios == [(1, 2.0, 0.5), (8, 0.75, 1.5)]
    assert (document["only_in_a"], document["only_in_b"]) == (1, 0)
    assert document["differences"] == {"machine.kernel": ["6.12.1", "6.18.0"]}


def test_page(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """What differs is said above the table, and the table has a line for each point."""
    assert main(["compare", *runs]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["machine.kernel", "6.12.1", "6.18.0"] in lines
    assert ["randread", "4", "KiB", "1", "10,000", "20,000", "2.00", "100", "50.0", "0.50"] in lines
    assert ["randread", "4", "KiB", "8", "80,000", "60,000", "0.75", "200", "300", "1.50"] in lines
    assert ["1", "point", "only", "in", "A"] in lines


def test_colours(runs: tuple[str, str]) -> None:
    """On a terminal better is green and worse is red, for latency the other way round than for IOPS."""
    status, shown = on_terminal("compare", *runs)
    assert status == 0
    assert set(re.findall(rf"{re.escape(GREEN)}(\d\.\d\d)", shown)) == {"2.00", "0.50"}
    assert set(re.findall(rf"{re.escape(RED)}(\d\.\d\d)", shown)) == {"0.75", "1.50"}


def test_a_run_and_itself(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing differs, and every ratio is 1."""
    assert main(["compare", runs[0], runs[0]]) == 0
    page = capsys.readouterr().out
    assert "nothing: target, queue, machine and parameters are the same" in page
    assert page.count("1.00") == 6


def test_points_without_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where every command failed there is no ratio, and the failures are told."""
    a = saved(tmp_path / "a.json", [point(1, 0.0, None, errors=1000, first_error="READ: no")])
    b = saved(tmp_path / "b.json", [point(1, 100.0, 10.0)], incomplete="interrupted")
    assert main(["compare", a, b]) == 0
    page = capsys.readouterr().out
    assert ["randread", "4", "KiB", "1", "0", "100", "-", "-", "10.0", "-"] in [
        line.split() for line in page.splitlines()
    ]
    assert "commands failed, 1000 in A and 0 in B" in page
    assert "not all points: interrupted" in page


def test_nothing_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No point is in both: said, and exit status 1."""
    a, b = saved(tmp_path / "a.json", [point(1, 1.0, 1.0)]), saved(tmp_path / "b.json", [point(2, 1.0, 1.0)])
    assert main(["compare", a, b]) == 1
    assert "none is in both" in capsys.readouterr().out


def test_what_bench_keeps_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was really made and saved is read again."""
    files = [str(tmp_path / name) for name in ("a.json", "b.json")]
    for file, options in zip(files, ((), ("--await-each",)), strict=True):
        arguments = ("--pattern", "append,read", "--overwrite", "--depth", "1", "--seconds", "0.05", *options)
        assert main(["bench", "emu:zns", *arguments, "--save", file]) == 0
    capsys.readouterr()
    assert main(["compare", *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["differences"] == {"parameters.await_each": [False, True]}
    assert [p["pattern"] for p in document["points"]] == ["append", "read"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe\x00", "it is not JSON"),
        (b"[]", "its schema is not aionvme-bench"),
        (b'{"schema": {"name": "fio"}}', "its schema is not aionvme-bench"),
        (b'{"schema": {"name": "aionvme-bench", "version": 7}}', "version 7 of its schema, and this aionvme reads 1"),
        (b'{"schema": {"name": "aionvme-bench", "version": 1}}', "'target' is missing"),
    ],
)
def test_what_is_no_saved_run(
    tmp_path: Path, runs: tuple[str, str], capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    """The file and what is wrong with it in a line, exit status 2."""
    file = tmp_path / "c.json"
    file.write_bytes(content)
    assert main(["compare", runs[0], str(file)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith(f"aionvme: {file} is no saved run: ")
    assert words in line


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"pattern": "read"}, "point 1 has no 'size_bytes'"),
        (7, "point 1 has no 'pattern'"),
        (point(1, 1.0, 1.0) | {"iops": "fast"}, "point 1 has a 'iops' of another kind: 'fast'"),
        (point(1, 1.0, 1.0) | {"depth": None}, "point 1 has a 'depth' of another kind: None"),
    ],
)
def test_points_that_are_none(
    tmp_path: Path, runs: tuple[str, str], capsys: pytest.CaptureFixture[str], entry: Any, words: str
) -> None:
    """The point and its field are named."""
    file = saved(tmp_path / "c.json", [point(1, 1.0, 1.0), entry])
    assert main(["compare", file, runs[1]]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_is_not_there(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Named, with exit status 2."""
    assert main(["compare", runs[0], "/nowhere/b.json"]) == 2
    assert capsys.readouterr().err == "aionvme: /nowhere/b.json: No such file or directory [ENOENT]\n"
