"""A trace in numbers, for programs and as a page."""

import os
from typing import Any

import numpy as np
from rich.console import RenderableType

from aionvme.cli.bench.page import three
from aionvme.cli.render import columns, facts, section, sections, size
from aionvme.cli.trace.kinds import kinds_of, latency_us, succeeded
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.status import Status
from aionvme.trace import Trace

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}


def summary_of(trace: Trace) -> dict[str, Any]:
    """The numbers; latencies in microseconds, of commands that succeeded, None where none has."""
    completed = trace["complete_ns"].max(initial=0)
    start = trace["submit_ns"].min() if len(trace) else 0
    zsze = int(trace["zsze"].max(initial=0))
    named = trace[(trace["nlb"] > 0) | ((trace["opcode"] == NvmOpcode.ZONE_MANAGEMENT_SEND) & ~trace["select_all"])]
    return {
        "commands": len(trace),
        "errors": int((~succeeded(trace)).sum()),
        "seconds": max(int(completed) - int(start), 0) / 1e9,
        "len_bytes": _bytes(trace),
        "in_flight_max": int(trace["in_flight"].max(initial=0)),
        "block_bytes": int(trace["block_bytes"].max(initial=0)) or None,
        "zsze": zsze or None,
        "zones_touched": len(np.unique(named["slba"] // zsze)) if zsze else None,
        "kinds": [_kind(name, trace[which]) for name, which in kinds_of(trace).items()],
        "failures": _failures(trace),
    }


def latencies_of(trace: Trace) -> dict[str, float | None]:
    """Percentiles: what so many of 100 do not exceed."""
    latencies = latency_us(trace)
    return {
        f"latency_{name}_us": float(np.percentile(latencies, percent, method="inverted_cdf"))
        if latencies.size
        else None
        for name, percent in PERCENTILES.items()
    }


def failure(status: int, errno: int) -> str:
    """How a command ended, in words."""
    return os.strerror(errno) if errno else Status(status).name if status else "success"


def _kind(name: str, trace: Trace) -> dict[str, Any]:
    return {
        "kind": name,
        "opcode": int(trace["opcode"][0]),
        "action": int(trace["action"][0]),
        "commands": len(trace),
        "errors": int((~succeeded(trace)).sum()),
        "len_bytes": _bytes(trace),
        **latencies_of(trace),
    }


def _bytes(trace: Trace) -> int:
    return int(trace["len_bytes"][succeeded(trace)].sum(dtype=np.uint64))


def _failures(trace: Trace) -> list[dict[str, Any]]:
    failed = trace[~succeeded(trace)]
    return [
        {
            "kind": name,
            "status": status,
            "errno": errno,
            "name": failure(status, errno) if status or errno else "never completed",
            "commands": count,
        }
        for name, which in kinds_of(failed).items()
        for (status, errno), count in zip(*_counted(failed[which][["status", "errno"]]), strict=True)
    ]


def _counted(values: Trace) -> tuple[list[Any], list[int]]:
    unique, counts = np.unique(values, return_counts=True)
    return unique.tolist(), counts.tolist()


def page_of(name: str, summary: dict[str, Any]) -> RenderableType:
    """The numbers as a page."""
    zsze, zones = summary["zsze"], summary["zones_touched"]
    rows = [
        ("trace", name),
        ("commands", f"{summary['commands']:,} in {summary['seconds']:.6g} s, {summary['errors']:,} failed"),
        ("data", size(summary["len_bytes"])),
        ("in flight", f"at most {summary['in_flight_max']}"),
        ("block", summary["block_bytes"] and f"{summary['block_bytes']} bytes"),
        ("zones", zsze and f"{zones} touched, of {zsze} blocks each"),
    ]
    headings = ("", ">commands", ">failed", ">data", ">p50 us", ">p90 us", ">p99 us", ">p99.9 us", ">max us")
    kinds = [
        (
            kind["kind"],
            f"{kind['commands']:,}",
            f"{kind['errors']:,}",
            size(kind["len_bytes"]) if kind["len_bytes"] else "-",
            *(three(kind[f"latency_{name}_us"]) for name in PERCENTILES),
        )
        for kind in summary["kinds"]
    ]
    failures = [(f["kind"], f["name"], f"{f['commands']:,}") for f in summary["failures"]]
    parts = [section("Trace", facts(rows)), section("Commands", columns(headings, kinds))]
    if failures:
        parts.append(section("Failures", columns(("", "", ">commands"), failures)))
    return sections(*parts)
