"""``aionvme replay``: a trace once more, on any target, and the two runs side by side.

Exit status 1 where commands ended with another status than they had, 2 where the trace does not fit the target.
"""

import argparse
import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_force, add_form, add_target
from aionvme.cli.bench.page import three
from aionvme.cli.files import check_writable
from aionvme.cli.render import Answer, columns, facts, section, sections
from aionvme.cli.trace.kinds import kinds_of, succeeded
from aionvme.cli.trace.summary import failure, latencies_of
from aionvme.cli.trace_command import add_trace, read_trace
from aionvme.errors import NamespaceInUseError, UsageError
from aionvme.opening import open_namespace
from aionvme.queues.attach import DEPTH_MAX
from aionvme.replaying.commands import CHANGES
from aionvme.replaying.run import replay
from aionvme.trace import Trace, save_trace, trace_file

SCHEMA = {"name": "aionvme-replay", "version": 1}

DEPTH = 64
"""The depth of the queue, unless the trace had more in flight."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    add_trace(parser)
    add_target(parser)
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=_speed, default=1.0, metavar="X", help="times as fast as it was; default 1")
    pace.add_argument("--fast", action="store_true", help="as fast as the queue allows")
    parser.add_argument("--overwrite", action="store_true", help="allow commands that destroy what the namespace holds")
    add_force(parser)
    parser.add_argument("--save", type=Path, metavar="NEW.npy", help="keep the new run's trace")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes a number above 0, such as 2")
    return speed


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    trace = read_trace(arguments.trace)
    changes = bool(np.isin(trace["opcode"], CHANGES).any())
    if changes and not arguments.overwrite:
        raise CommandLineError(
            f"{arguments.trace} writes or manages zones, which destroys data: say so with --overwrite"
        )
    if arguments.save is not None:
        check_writable("--save", arguments.save)
    speed = None if arguments.fast else arguments.speed
    replayed, queue = asyncio.run(_replay(trace, arguments, speed, readonly=not changes))
    if arguments.save is not None:
        save_trace(replayed, trace_file(arguments.save))
    document = {
        "schema": SCHEMA,
        "trace": str(arguments.trace),
        "target": arguments.target,
        "queue": queue,
        "speed": speed,
        **comparison_of(trace, replayed, speed),
    }
    return Answer(document, _page(document), exit_status=1 if document["differing"] else 0)


async def _replay(
    trace: Trace, arguments: argparse.Namespace, speed: float | None, *, readonly: bool
) -> tuple[Trace, str]:
    depth = min(max(DEPTH, int(trace["in_flight"].max(initial=1))), DEPTH_MAX)
    async with open_namespace(arguments.target, depth=depth, readonly=readonly, force=arguments.force) as ns:
        try:
            return await replay(trace, ns, speed=speed), str(ns.queue)
        except NamespaceInUseError:
            raise
        except UsageError as error:
            raise CommandLineError(str(error)) from None


def comparison_of(trace: Trace, replayed: Trace, speed: float | None) -> dict[str, Any]:
    """The two runs in numbers, pairs of what was and what is."""
    differ = (trace["status"] != replayed["status"]) | (trace["errno"] != replayed["errno"])
    return {
        "commands": len(trace),
        "seconds": [_seconds(trace), _seconds(replayed)],
        "differing": int(differ.sum()),
        "late_p50_us": _late(trace, replayed, speed, 50),
        "late_max_us": _late(trace, replayed, speed, 100),
        "kinds": [_kind(name, trace[which], replayed[which]) for name, which in kinds_of(trace).items()],
        "outcomes": [
            {"kind": name, "status": [was[0], now[0]], "errno": [was[1], now[1]], "commands": count}
            for name, which in kinds_of(trace[differ]).items()
            for was, now, count in _outcomes(trace[differ][which], replayed[differ][which])
        ],
    }


def _seconds(trace: Trace) -> float:
    return (int(trace["complete_ns"].max()) - int(trace["submit_ns"].min())) / 1e9 if len(trace) else 0.0


def _late(trace: Trace, replayed: Trace, speed: float | None, percent: float) -> float | None:
    """By how much commands were submitted after their times."""
    if speed is None or not len(trace):
        return None
    late = replayed["submit_ns"] - (trace["submit_ns"] - trace["submit_ns"].min()) / speed
    return float(np.percentile(late, percent)) / 1000


def _kind(name: str, trace: Trace, replayed: Trace) -> dict[str, Any]:
    pairs = [latencies_of(rows) for rows in (trace, replayed)]
    return {
        "kind": name,
        "commands": len(trace),
        "errors": [int((~succeeded(rows)).sum()) for rows in (trace, replayed)],
        **{key: [pair[key] for pair in pairs] for key in pairs[0]},
    }


def _outcomes(trace: Trace, replayed: Trace) -> list[tuple[Any, Any, int]]:
    both = np.stack([trace["status"], trace["errno"], replayed["status"], replayed["errno"]], axis=1)
    unique, counts = np.unique(both, axis=0, return_counts=True)
    return [((a, b), (c, d), n) for (a, b, c, d), n in zip(unique.tolist(), counts.tolist(), strict=True)]


def _page(document: dict[str, Any]) -> RenderableType:
    was, now = document["seconds"]
    late = document["late_p50_us"]
    rows = [
        ("trace", document["trace"]),
        ("target", document["target"]),
        ("queue", document["queue"]),
        ("commands", f"{document['commands']:,}, {document['differing']:,} of them with another outcome"),
        ("took", f"{was:.6g} s, and {now:.6g} s now"),
        (
            "late",
            None if late is None else f"{three(late)} us in the median, {three(document['late_max_us'])} us at most",
        ),
    ]
    headings = ("", ">commands", ">failed", ">now", ">p50 us", ">now", ">p99 us", ">now")
    kinds = [
        (
            kind["kind"],
            f"{kind['commands']:,}",
            *(f"{errors:,}" for errors in kind["errors"]),
            *(three(value) for name in ("p50", "p99") for value in kind[f"latency_{name}_us"]),
        )
        for kind in document["kinds"]
    ]
    outcomes = [
        (o["kind"], *(failure(*pair) for pair in zip(o["status"], o["errno"], strict=True)), f"{o['commands']:,}")
        for o in document["outcomes"]
    ]
    parts = [section("Replay", facts(rows)), section("Commands", columns(headings, kinds))]
    if outcomes:
        parts.append(section("Other outcomes", columns(("", "was", "is", ">commands"), outcomes)))
    return sections(*parts)
