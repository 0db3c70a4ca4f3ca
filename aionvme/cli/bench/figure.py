"""A run as a figure: IOPS and latency over depth."""

import textwrap
from itertools import groupby
from pathlib import Path

from aionvme.cli.bench.run import Run
from aionvme.cli.render import size


def draw(run: Run, file: Path) -> None:
    """Draw the points into a file, a line for each size of each pattern."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    groups = groupby(run.points, lambda point: (point.pattern, point.size_bytes))
    for number, ((pattern, size_bytes), group) in enumerate(groups):
        points = sorted(group, key=lambda point: point.depth)
        depths, colour, label = [point.depth for point in points], f"C{number}", f"{pattern}, {size(size_bytes)}"
        left.plot(depths, [point.iops for point in points], marker="o", color=colour, label=label)
        for style, marker, percentile in (("-", "o", "p50"), ("--", "^", "p99")):
            values = [getattr(point, f"latency_{percentile}_us") for point in points]
            values = [float("nan") if value is None else value for value in values]
            right.plot(depths, values, style, marker=marker, color=colour, label=f"{label}, {percentile}")
    ticks = sorted({point.depth for point in run.points})
    for axes, quantity in ((left, "IOPS (commands/s)"), (right, "latency (us)")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(depth) for depth in ticks])
        axes.set_xlabel("queue depth (commands in flight)")
        axes.set_ylabel(quantity)
        axes.grid(alpha=0.3)
        axes.legend()
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter("{x:,.0f}")
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # so that less than a power of ten has ticks, too
    right.yaxis.set_major_formatter("{x:,g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    how = "an await for each command" if run.parameters["await_each"] else "arrays of commands"
    title = f"{textwrap.shorten(run.target, 80)}, {run.queue['kind']} queue, {how}\nLinux {run.machine['kernel']}, "
    figure.suptitle(title + f"{run.namespace['mn']}")
    figure.savefig(file, dpi=110)
