"""What does the raw queue save? Raw, polled and interrupt driven passthrough and the block layer, doing the same random reads.

One thread of C on the native core (raw_queue.c) in the test bed's virtual machine, on the kernel of _native/kernel, so that all
four paths are those of one kernel. Two figures for each path, size, queue depth and reap batch:

- reads a second, the median of several rounds, contenders interleaved. The device and both processors are emulated, so only
  ratios within one run say anything;
- guest instructions for each read, user space and kernel, on a processor whose clock counts them: what a read costs, without
  the waiting for it. These repeat.

``python -m benchmarks.raw_queue`` writes docs/figures/raw_queue.json, .md and .png; the last needs matplotlib (extra "plots").
With ``--check`` it fails where a raw queue costs more than it should.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness

PROGRAM = harness.program("raw_queue")

PATHS = ("raw", "polled", "interrupt", "block")
SIZES = (512, 4096)
DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
BATCHES = (1, 2, 4, 8, 16, 32)
BATCH, DEPTH = 32, 128
"""Reap batch of the sweep of depths, depth of the sweep of batches."""

ROUNDS = 3
SECONDS = 0.4

COUNTING = ("--icount", "--cpus", "1", "--polled-queues", "1")
"""The machine on which instructions are counted."""

SHARE = 0.6
"""What a read on a raw queue may cost of what it costs polled, by :data:`CHECKED`."""

Point = tuple[str, int, int, int]
"""Path, size, depth, batch."""


CHECKED: list[Point] = [("raw", 512, 64, 32), ("polled", 512, 64, 32)]


def points() -> list[Point]:
    """What is measured, in an order that puts contenders side by side."""
    shapes = [(depth, BATCH) for depth in DEPTHS] + [(DEPTH, batch) for batch in BATCHES if batch != BATCH]
    return [(path, size, *shape) for size in SIZES for shape in shapes for path in PATHS]


def one(point: Point, what: str) -> float:
    """One measurement, by the program in the guest."""
    path, size, depth, batch = point
    device = "/dev/nvme0n1" if path == "block" else "/dev/ng0n1"
    command = [str(PROGRAM), device, path, str(size), str(depth), str(min(batch, depth)), what]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def in_guest(what: str, only: str = "") -> dict[str, Any]:
    """Measurements of one kind, each the median of its rounds, and where they were made; ``only`` those that are checked."""
    rounds: dict[Point, list[float]] = {}
    for _ in range(1 if what == "count" else ROUNDS):
        for point in CHECKED if only else points():
            rounds.setdefault(point, []).append(one(point, what))
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "points": [[*point, statistics.median(values)] for point, values in rounds.items()],
    }


def boot(what: str, *options: str) -> dict[str, Any]:
    """Run this file in the guest and take what it leaves."""
    found: dict[str, Any] = harness.in_guest("benchmarks.raw_queue", ["--guest", what], ["--kernel", "raw", *options])
    return found


def check() -> str | None:
    """What is wrong with the instructions for a read on a raw queue beside those of polled passthrough, None if nothing is."""
    harness.compile_program("raw_queue")
    (_, *_, raw), (_, *_, polled) = boot("count,check", *COUNTING)["points"]
    found = f"{raw:.0f} guest instructions for a read on a raw queue, {polled:.0f} polled: {raw / polled:.0%}"
    print(found)
    return None if raw <= SHARE * polled else f"more than {SHARE:.0%}"


def measure() -> dict[str, Any]:
    """Both kinds of figures, with the machine that they come from."""
    harness.compile_program("raw_queue")
    rates = boot(str(SECONDS))
    counts = boot("count", *COUNTING)
    host = harness.machine()
    return {
        "machine": {
            "host": host["kernel"],
            "cpu": host["cpu"],
            "emulator": harness.emulator(),
            "guest": rates["kernel"],
        },
        "reads_a_second": rates["points"],
        "instructions_a_read": counts["points"],
    }


def table(result: dict[str, Any], kind: str, size: int) -> str:
    """One kind of figure for one size, a line for each shape and a column for each path, in Markdown."""
    values = {tuple(point[:4]): point[4] for point in result[kind]}
    lines = [
        "| depth | batch | " + " | ".join(PATHS) + " | raw / polled |",
        "|" + "---:|" * (len(PATHS) + 3),
    ]
    for _, _, depth, batch in (point for point in points() if point[:2] == ("raw", size)):
        row = [values[path, size, depth, batch] for path in PATHS]
        lines.append(
            f"| {depth} | {min(batch, depth)} | " + " | ".join(f"{v:,.0f}" for v in row) + f" | {row[0] / row[1]:.2f} |"
        )
    return "\n".join(lines)


def report(result: dict[str, Any]) -> str:
    """The whole result in Markdown."""
    machine = result["machine"]
    parts = [
        "# Raw, polled, interrupt, block: random reads",
        "Written by `python -m benchmarks.raw_queue`, whose head says what was measured and how. "
        f"Guest: Linux {machine['guest']}, two processors, {machine['emulator']} without KVM on {machine['cpu']}, "
        f"Linux {machine['host']}.",
        "The instructions are what a read costs, and repeat to a few per cent. Reads a second are limited by the emulated "
        "device, which shares two processors with the guest, and are noisy, as neighbouring lines show: at small depths, where "
        "the device is what is waited for, the raw queue is not ahead of polling.",
        "![reads a second and instructions for each read](raw_queue.png)",
    ]
    for size in SIZES:
        parts += [f"## {size} bytes, guest instructions for each read", table(result, "instructions_a_read", size)]
        parts += [f"## {size} bytes, reads a second", table(result, "reads_a_second", size)]
    return "\n\n".join(parts) + "\n"


def draw(result: dict[str, Any], file: Path) -> None:
    """Four panels for 512 bytes: both kinds of figures, over depth and over batch."""
    import matplotlib as mpl

    mpl.use("svg" if file.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    titles = {"reads_a_second": "reads a second", "instructions_a_read": "guest instructions for each read"}
    for row, (kind, title) in zip(panels, titles.items(), strict=True):
        values = {tuple(point[:4]): point[4] for point in result[kind]}
        for axes, xs, shape in (
            (row[0], DEPTHS, lambda x: (x, BATCH)),
            (row[1], BATCHES, lambda x: (DEPTH, x)),
        ):
            for path in PATHS:
                axes.plot(xs, [values[path, 512, *shape(x)] for x in xs], marker="o", label=path)
            axes.set_xscale("log", base=2)
            axes.set_xticks(xs, [str(x) for x in xs])
            axes.set_ylim(bottom=0)
            axes.set_ylabel(title)
            axes.grid(alpha=0.3)
        row[0].set_xlabel(f"queue depth, batches of up to {BATCH}")
        row[1].set_xlabel(f"reap batch, queue depth {DEPTH}")
    panels[0][0].legend()
    figure.suptitle("512-byte random reads, one thread, emulated NVMe device, Linux " + result["machine"]["guest"])
    figure.savefig(file, dpi=110)


def main() -> None:
    """Measure and write, or in the guest measure and leave the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only see that a raw queue costs as little as it should")
    parser.add_argument("--guest", metavar="WHAT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.guest:
        harness.leave(in_guest(*options.guest.split(",")))
        return
    if options.check:
        sys.exit(check())
    result = measure()
    harness.save(harness.FIGURES, "raw_queue", result, report(result), lambda file: draw(result, file))
    print(report(result))


if __name__ == "__main__":
    main()
