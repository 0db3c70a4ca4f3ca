"""A run as people read it, whole and while it grows."""

from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aionvme.cli.bench.plan import PATTERNS
from aionvme.cli.bench.point import Point
from aionvme.cli.bench.run import Run
from aionvme.cli.bench.sweep import Task
from aionvme.cli.render import columns, facts, plural, section, sections, size

HEADINGS = (
    ">depth",
    ">IOPS",
    ">MB/s",
    ">mean us",
    ">p50",
    ">p99",
    ">p99.9",
    ">max",
    ">CPU",
    ">us/cmd",
)

LAST = 8
"""Points that the page shows while it grows: a terminal has few lines."""


def page_of(run: Run) -> RenderableType:
    """All of it."""
    groups = [
        section(f"{pattern}, {size(size_bytes)}", _points(list(points)))
        for (pattern, size_bytes), points in groupby(run.points, lambda point: (point.pattern, point.size_bytes))
    ]
    incomplete = [Text(f"Not all points: {run.incomplete}", "yellow")] if run.incomplete else []
    return sections(section("Measured", facts(_facts(run))), *groups, *incomplete)


def growing_page(run: Run, task: Task, tasks: int) -> RenderableType:
    """The last points of a run that goes on, and the one that is being measured."""
    done = len(run.points)
    at_hand = Text(
        f"point {done + 1} of {tasks}: {task.pattern.name}, {size(task.size_bytes)}, depth {task.depth}; "
        f"{(tasks - done) * run.parameters['seconds']:.0f} s to go",
        "dim",
    )
    shown = [point for point in run.points if (point.pattern, point.size_bytes) == (task.pattern.name, task.size_bytes)]
    return Group(_table(shown[-LAST:]), at_hand) if shown else at_hand


def _facts(run: Run) -> list[tuple[str, object]]:
    namespace, machine, parameters = run.namespace, run.machine, run.parameters
    blocks = f"{'zoned' if namespace['zoned'] else 'conventional'}, {plural(namespace['nsze'], 'block')}"
    region = size(parameters["region_bytes"])
    how = "arrays of commands on asyncio, latencies from submission to reaping"
    if parameters["await_each"]:
        how = "an await for each command on asyncio, latencies as the awaiting task sees them"
    return [
        ("target", run.target),
        ("controller", f"{namespace['mn']}, firmware {namespace['fr']}"),
        ("namespace", f"{blocks} of {namespace['lba_size']} bytes"),
        ("queue", f"{run.queue['kind']}; {run.queue['detour']}" if run.queue["detour"] else run.queue["kind"]),
        *((f"not {kind}", reason) for kind, reason in run.queue["why_not"].items()),
        (
            "machine",
            f"Linux {machine['kernel']}, {machine['cpus_allowed']} of {plural(machine['cpus'], 'cpu')}, {machine['cpu']}",
        ),
        ("python", f"{machine['python']}, {_build(run)}; aionvme {machine['aionvme']}"),
        ("each point", f"{parameters['seconds']:g} s, {how}, in {region}, seed {parameters['seed']}"),
        *(("note", Text(note, "yellow")) for note in _notes(run)),
    ]


def _build(run: Run) -> str:
    return f"built {'with' if run.machine['python_enable_optimizations'] else 'without'} --enable-optimizations"


def _notes(run: Run) -> list[str]:
    notes = []
    if run.queue["kind"] == "emulated":
        notes.append("emulated in this process: speed and processor time are mostly the emulator's")
    if any(point.written_zones == 0 and not PATTERNS[point.pattern].overwrites for point in run.points):
        notes.append("all zones were empty when they were read: a device may answer that without reading anything")
    return notes


def _points(points: list[Point]) -> RenderableType:
    lines = [Text(line, style) for point in points for line, style in _remarks(point)]
    return Group(_table(points), *lines)


def _remarks(point: Point) -> list[tuple[str, str]]:
    remarks = []
    if point.queue_depth < point.depth:
        remarks.append(
            (f"depth {point.depth}: only {point.queue_depth} in flight, the queue has no room for more", "yellow")
        )
    if point.zone_resets:
        remarks.append(
            (f"depth {point.depth}: {plural(point.zone_resets, 'zone')} reset, not in the time measured", "dim")
        )
    if point.errors:
        remarks.append(
            (
                f"depth {point.depth}: {point.errors} of {plural(point.commands, 'command')} failed; "
                f"the first: {point.first_error}",
                "red",
            )
        )
    return remarks


def _table(points: list[Point]) -> Table:
    return columns(HEADINGS, map(_row, points))


def _row(point: Point) -> tuple[str, ...]:
    return (
        str(point.depth),
        f"{point.iops:,.0f}",
        three(point.mb_per_s),
        three(point.latency_mean_us),
        three(point.latency_p50_us),
        three(point.latency_p99_us),
        three(point.latency_p99_9_us),
        three(point.latency_max_us),
        f"{point.cpu_s_per_s:.0%}",
        three(point.cpu_us_per_command),
    )


def three(value: float | None) -> str:
    """A number with three digits or all before its point; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
