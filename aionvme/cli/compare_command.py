"""``aionvme compare``: two saved runs of ``aionvme bench`` side by side.

Exit status 1 where they have no point in common, 2 where a file holds no run.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aionvme.cli.arguments import add_form
from aionvme.cli.bench.page import three
from aionvme.cli.bench.point import Point
from aionvme.cli.bench.run import Run, load_run
from aionvme.cli.render import Answer, columns, facts, plural, section, sections, size

NOTABLE = 0.05
"""A ratio this far from 1 has a colour."""

IGNORED = {"date", "patterns", "sizes", "depths"}
"""What differs without saying anything of the points that both have."""

Pair = tuple[Point, Point]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    parser.add_argument("a", metavar="A.json", type=Path, help="a run that `aionvme bench --save` kept")
    parser.add_argument("b", metavar="B.json", type=Path, help="another, whose figures are divided by those of A")


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    runs = load_run(arguments.a), load_run(arguments.b)
    differences = _differences(*runs)
    tables = [{(p.pattern, p.size_bytes, p.depth): p for p in each.points} for each in runs]
    pairs = [(point, tables[1][key]) for key, point in tables[0].items() if key in tables[1]]
    alone = [len(table) - len(pairs) for table in tables]
    document = {
        "a": str(arguments.a),
        "b": str(arguments.b),
        "differences": differences,
        "points": [_entry(a, b) for a, b in pairs],
        "only_in_a": alone[0],
        "only_in_b": alone[1],
    }
    page = sections(
        section("Runs", facts([("A", _origin(arguments.a, runs[0])), ("B", _origin(arguments.b, runs[1]))])),
        section("What differs", _difference_page(differences)),
        section("Points", _pair_page(pairs, alone)),
    )
    return Answer(document, page, exit_status=0 if pairs else 1)


def _origin(file: object, each: Run) -> str:
    return f"{file}, {each.machine.get('date', 'no date')}" + (
        f", not all points: {each.incomplete}" if each.incomplete else ""
    )


def _differences(a: Run, b: Run) -> dict[str, list[Any]]:
    """By dotted name what the two were measured on and with, where it is not the same."""
    flat = [
        _flat({name: value for name, value in asdict(each).items() if name not in ("points", "incomplete")})
        for each in (a, b)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    return {
        name: [each.get(name) for each in flat]
        for name in names
        if flat[0].get(name) != flat[1].get(name) and name.rpartition(".")[2] not in IGNORED
    }


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _entry(a: Point, b: Point) -> dict[str, Any]:
    return {
        "pattern": a.pattern,
        "size_bytes": a.size_bytes,
        "depth": a.depth,
        "iops": [a.iops, b.iops],
        "iops_ratio": _ratio(a.iops, b.iops),
        "latency_p99_us": [a.latency_p99_us, b.latency_p99_us],
        "latency_p99_ratio": _ratio(a.latency_p99_us, b.latency_p99_us),
        "errors": [a.errors, b.errors],
    }


def _ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a and b is not None else None


def _difference_page(differences: dict[str, list[Any]]) -> RenderableType:
    if not differences:
        return Text("nothing: target, queue, machine and parameters are the same")
    return columns(("", "A", "B"), ((name, _word(a), _word(b)) for name, (a, b) in differences.items()))


def _word(value: object) -> str:
    return "-" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _pair_page(pairs: list[Pair], alone: list[int]) -> RenderableType:
    lines = [
        Text(f"{plural(count, 'point')} only in {name}", "dim")
        for name, count in zip("AB", alone, strict=True)
        if count
    ]
    if not pairs:
        return Group(Text("none is in both", "bold red"), *lines)
    headings = ("pattern", ">size", ">depth", ">IOPS A", ">IOPS B", ">B/A", ">p99 us A", ">p99 us B", ">B/A")
    failed = [
        Text(
            f"{a.pattern}, {size(a.size_bytes)}, depth {a.depth}: commands failed, {a.errors} in A and {b.errors} in B",
            "red",
        )
        for a, b in pairs
        if a.errors or b.errors
    ]
    return Group(columns(headings, (_row(a, b) for a, b in pairs)), *failed, *lines)


def _row(a: Point, b: Point) -> tuple[str | Text, ...]:
    return (
        a.pattern,
        size(a.size_bytes),
        str(a.depth),
        f"{a.iops:,.0f}",
        f"{b.iops:,.0f}",
        _verdict(_ratio(a.iops, b.iops), more_is_better=True),
        three(a.latency_p99_us),
        three(b.latency_p99_us),
        _verdict(_ratio(a.latency_p99_us, b.latency_p99_us), more_is_better=False),
    )


def _verdict(ratio: float | None, *, more_is_better: bool) -> Text:
    if ratio is None:
        return Text("-")
    style = "" if abs(ratio - 1) < NOTABLE else "green" if (ratio > 1) == more_is_better else "red"
    return Text(f"{ratio:.2f}", style)
