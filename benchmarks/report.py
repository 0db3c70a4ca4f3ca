"""What is made of a benchmark's result: tables in Markdown, and a figure."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

Figures = dict[str, dict[str, dict[str, list[float]]]]
"""By metric, contender and queue depth: what each round found."""

TITLES = {
    "commands_per_second": "commands a second",
    "processor_us_per_command": "processor time for each command, microseconds",
    "instructions_per_command": "instructions for each command, user space",
    "latency_p50_us": "median latency, microseconds",
    "polls_per_command": "polls for each command",
    "percent_in_vain": "polls that found nothing, percent",
    "percent_in_vain_before": "the same with a poll at every tick, percent",
}
"""The metrics, and what they are called."""


class PartResult(TypedDict):
    """What the contenders did in one place; ``cannot`` says of contenders why they did not."""

    title: str
    machine: dict[str, Any]
    seconds: float
    figures: Figures
    cannot: dict[str, str]


class Result(TypedDict):
    """A whole benchmark, and the machine on which it ran."""

    title: str
    machine: dict[str, Any]
    parts: dict[str, PartResult]


def table(by_contender: dict[str, dict[str, list[float]]]) -> str:
    """Medians, a line for each contender and a column for each depth."""
    rows = {
        contender: {depth: _number(statistics.median(rounds)) for depth, rounds in by_depth.items()}
        for contender, by_depth in by_contender.items()
    }
    return _grid("contender", rows)


def ratios(part: PartResult, pairs: Sequence[tuple[str, str]], metric: str = "commands_per_second") -> str:
    """How contenders compare with others: the median of the ratios within each round, a line for each pair."""
    found = part["figures"].get(metric, {})
    rows = {
        f"{one} / {other}": {
            depth: _share(statistics.median(a / b for a, b in zip(rounds, found[other][depth], strict=True)))
            for depth, rounds in found[one].items()
            if depth in found[other]
        }
        for one, other in pairs
        if one in found and other in found
    }
    return _grid(TITLES[metric], rows)


def _grid(corner: str, rows: dict[str, dict[str, str]]) -> str:
    depths = sorted({depth for row in rows.values() for depth in row}, key=int)
    lines = [f"| {corner} | " + " | ".join(f"QD {depth}" for depth in depths) + " |", "|---|" + "---:|" * len(depths)]
    lines += [f"| {name} | " + " | ".join(row.get(depth, "") for depth in depths) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float) -> str:
    return f"{value:.0f} times" if value >= 10 else f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def _place(machine: dict[str, Any]) -> str:
    optimised = "" if machine["optimised_python"] else " (built without optimisations)"
    return f"Linux {machine['kernel']}, {machine['cpus']} processors, Python {machine['python']}{optimised}"


def markdown(name: str, result: Result, remarks: Sequence[str]) -> str:
    """The whole result: tables for each part, what could not take part, remarks."""
    machine = result["machine"]
    lines = [
        f"# {result['title']}",
        f"Written by `python -m benchmarks.{name}`, whose head says what was measured and how: medians of the rounds, each "
        f"measurement in a fresh process, contenders interleaved. {machine['cpu']}, {_place(machine)}.",
        f"![the figures below]({name}.png)",
    ]
    for part in result["parts"].values():
        lines.append(f"## {part['title']}")
        if part["machine"]["kernel"] != machine["kernel"]:
            lines.append(
                f"In a virtual machine, {machine['emulator']}: {_place(part['machine'])}. Device and processors are "
                "emulated, so only ratios within this run say anything."
            )
        for metric, by_contender in part["figures"].items():
            lines += [f"{TITLES[metric].capitalize()}:", table(by_contender)]
        lines += [f"{contender}: not measured. {reason}" for contender, reason in part["cannot"].items()]
    return "\n\n".join([*lines, *remarks]) + "\n"


def draw(result: Result, file: Path) -> None:
    """A panel for each part and metric: medians and the range of the rounds, over the queue depth where there are several."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = [(part, metric) for part in result["parts"].values() for metric in part["figures"]]
    height = (len(panels) + 1) // 2
    figure, grid = plt.subplots(height, 2, figsize=(13, 4.5 * height), layout="constrained", squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (part, metric) in zip(grid.flat, panels, strict=False):
        _panel(axes, part["figures"][metric])
        axes.set_title(f"{part['title']}\n{TITLES[metric]}", fontsize="medium")
        axes.grid(alpha=0.3)
    figure.suptitle(result["title"])
    figure.savefig(file, dpi=100)
    plt.close(figure)


def _panel(axes: Any, by_contender: dict[str, dict[str, list[float]]]) -> None:
    depths = sorted({int(depth) for by_depth in by_contender.values() for depth in by_depth})
    if len(depths) == 1:
        for name, by_depth in reversed(by_contender.items()):
            (rounds,) = by_depth.values()
            median = statistics.median(rounds)
            axes.errorbar(median, name, xerr=[[median - min(rounds)], [max(rounds) - median]], fmt="o", color="C0")
        axes.set_xscale("log")
        return
    for name, by_depth in by_contender.items():
        own = sorted(map(int, by_depth))
        values = [by_depth[str(depth)] for depth in own]
        (line,) = axes.plot(own, list(map(statistics.median, values)), marker="o", label=name)
        axes.fill_between(own, list(map(min, values)), list(map(max, values)), color=line.get_color(), alpha=0.1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.set_xlabel("queue depth")
    axes.legend(fontsize="small")
