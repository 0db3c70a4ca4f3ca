"""A trace as a figure: what was written where, write pointers, latencies and queue depth, over time."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aionvme.cli.trace.kinds import kinds_of, latency_us, succeeded
from aionvme.cli.trace.zones import write_pointers, written_of
from aionvme.trace import Trace

KINDS = (
    "read", "write", "zone append", "reset zone", "flush", "finish zone", "open zone", "close zone", "report zones", "compare",
)  # fmt: skip
"""Kinds that have colours of their own, the same in every figure; others take what is left."""

TIME_BINS = 100
ZONE_BINS = 256


def draw(trace: Trace, name: str, file: Path) -> None:
    """Draw a trace that has commands into a file."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(13, 11), layout="constrained")
    panels = figure.subplot_mosaic([["map", "pointers"], ["latency", "distribution"], ["depth", "depth"]])
    clock = _Clock(trace)
    colours = _colours(list(kinds_of(trace)))
    _map(panels["map"], trace, clock)
    _pointers(panels["pointers"], trace, clock, colours)
    _latency(panels["latency"], trace, clock, colours)
    _distribution(panels["distribution"], trace, colours)
    _depth(panels["depth"], trace, clock)
    for panel, axes in panels.items():
        if panel != "distribution":
            axes.set_xlim(0, clock.end)
            axes.set_xlabel(f"time from the first submission ({clock.unit})")
    handles = [Line2D([], [], color=colour, marker="o", linestyle="", label=kind) for kind, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False)
    failed = int((~succeeded(trace)).sum())
    figure.suptitle(f"{textwrap.shorten(name, 90)}: {len(trace):,} commands, {failed:,} failed")
    figure.savefig(file, dpi=110)


class _Clock:
    """Times of a trace on an axis: from its first submission, in a unit that fits."""

    def __init__(self, trace: Trace) -> None:
        self._start = int(trace["submit_ns"].min())
        end = max(int(trace["complete_ns"].max()), int(trace["submit_ns"].max()) + 1) - self._start
        self._ns, self.unit = next(
            (ns, unit) for ns, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")) if end >= ns or ns == 1e3
        )
        self.end = end / self._ns

    def __call__(self, times_ns: Any) -> NDArray[np.float64]:
        return (np.asarray(times_ns, np.float64) - self._start) / self._ns


def _colours(kinds: list[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    others = [kind for kind in kinds if kind not in KINDS]
    own = {kind: colormaps["tab10"](KINDS.index(kind)) for kind in KINDS if kind in kinds}
    return own | {kind: colormaps["Dark2"](i % 8) for i, kind in enumerate(others)}


def _map(axes: Any, trace: Trace, clock: _Clock) -> None:
    """Blocks written, by zone and time."""
    from matplotlib.ticker import MaxNLocator

    written = written_of(trace)
    zoned = trace["zsze"].any()
    axes.set_title("blocks written by zone" if zoned else f"blocks written by stretch of {written.stretch:,} blocks")
    axes.set_ylabel("zone" if zoned else "stretch")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if not written.place.size:
        return _say(axes, "nothing was written")
    low, high = int(written.place.min()), int(written.place.max()) + 1
    counts, times, places = np.histogram2d(
        clock(written.complete_ns),
        written.place.astype(np.float64),
        bins=[TIME_BINS, min(high - low, ZONE_BINS)],
        range=[[0, clock.end], [low - 0.5, high - 0.5]],
        weights=written.nlb,
    )
    mesh = axes.pcolormesh(times, places, np.ma.masked_equal(counts.T, 0), cmap="viridis_r", rasterized=True)
    axes.figure.colorbar(mesh, ax=axes, label=f"blocks in {clock.end / TIME_BINS:.3g} {clock.unit}", pad=0.02)


def _pointers(axes: Any, trace: Trace, clock: _Clock, colours: dict[str, Any]) -> None:
    """Write pointers over time, or on a conventional namespace the addresses."""
    if not trace["zsze"].any():
        axes.set_title("addresses")
        axes.set_ylabel("LBA")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        for kind, which in kinds_of(trace).items():
            rows = trace[which & (trace["nlb"] > 0)]
            axes.plot(clock(rows["submit_ns"]), rows["slba"], ".", markersize=3, color=colours[kind], rasterized=True)
        return None
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    axes.set_title("write pointers (a finished zone is at its size)")
    axes.set_ylabel("blocks from the zone's start")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    pointers = write_pointers(trace)
    if not pointers:
        return _say(axes, "none was moved")
    low, high = min(pointers), max(pointers)
    palette = colormaps["turbo"]
    few = high - low < 20
    norm = (
        BoundaryNorm(np.arange(low - 0.5, high + 1), palette.N)
        if few and high > low
        else Normalize(low - 0.5, high + 0.5)
    )
    for zone, (times, wps) in sorted(pointers.items()):
        axes.step(
            [*clock(times), clock.end],
            [*wps, wps[-1]],
            where="post",
            color=palette(norm(zone)),
            linewidth=1.2,
            alpha=0.85,
        )
    axes.set_ylim(bottom=0)
    bar = axes.figure.colorbar(ScalarMappable(norm, palette), ax=axes, label="zone", pad=0.02)
    bar.locator = MaxNLocator(nbins=10, integer=True)
    bar.minorticks_off()
    bar.update_ticks()
    return None


def _latency(axes: Any, trace: Trace, clock: _Clock, colours: dict[str, Any]) -> None:
    """How long each command took."""
    axes.set_title("latency of each command that succeeded")
    axes.set_ylabel("latency (us)")
    _logarithmic(axes.yaxis, axes.set_yscale)
    for kind, which in kinds_of(trace).items():
        rows = trace[which & succeeded(trace)]
        axes.plot(clock(rows["submit_ns"]), latency_us(rows), ".", markersize=3, color=colours[kind], rasterized=True)
    axes.grid(alpha=0.3)


def _distribution(axes: Any, trace: Trace, colours: dict[str, Any]) -> None:
    """How many of 100 commands of a kind took no longer."""
    axes.set_title("distribution of latencies")
    axes.set_xlabel("latency (us)")
    axes.set_ylabel("commands that took no longer (%)")
    _logarithmic(axes.xaxis, axes.set_xscale)
    for kind, which in kinds_of(trace).items():
        latencies = np.sort(latency_us(trace[which]))
        if latencies.size:
            percent = np.arange(latencies.size + 1) / latencies.size * 100
            axes.step([latencies[0], *latencies], percent, where="post", color=colours[kind])
    axes.set_ylim(0, 101)
    axes.grid(alpha=0.3)


def _depth(axes: Any, trace: Trace, clock: _Clock) -> None:
    """How many commands were in flight."""
    axes.set_title("commands in flight")
    axes.set_ylabel("commands")
    done = trace[trace["complete_ns"] > 0]
    times = np.concatenate([trace["submit_ns"], done["complete_ns"]])
    steps = np.concatenate([np.ones(len(trace), int), np.full(len(done), -1)])
    order = np.argsort(times, kind="stable")
    axes.fill_between(
        clock(times[order]), np.cumsum(steps[order]), step="post", color="0.45", linewidth=0, rasterized=True
    )
    axes.set_ylim(0, int(trace["in_flight"].max()) * 1.05 + 0.5)
    axes.grid(alpha=0.3)


def _logarithmic(axis: Any, set_scale: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())


def _say(axes: Any, what: str) -> None:
    axes.text(0.5, 0.5, what, transform=axes.transAxes, ha="center", va="center", color="0.5")
