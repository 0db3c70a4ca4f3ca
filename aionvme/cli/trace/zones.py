"""What a trace did to zones over time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aionvme.cli.trace.kinds import WRITES, succeeded, written_at
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction
from aionvme.trace import Trace

STRETCHES = 64
"""As so many stretches a conventional namespace is drawn, from the lowest to the highest block written."""


class Written(NamedTuple):
    """Writes that succeeded: when each completed, in which zone or stretch it was, and how many blocks it had."""

    complete_ns: NDArray[np.uint64]
    place: NDArray[np.uint64]
    nlb: NDArray[np.uint32]
    stretch: int
    """Blocks of a zone or stretch."""


def written_of(trace: Trace) -> Written:
    """What a trace wrote."""
    writes = trace[succeeded(trace) & np.isin(trace["opcode"], WRITES)]
    at = written_at(writes)
    stretch = int(trace["zsze"].max(initial=0))
    if not stretch:
        stretch = max(-(-int((at + writes["nlb"]).max(initial=1)) // STRETCHES), 1)
    return Written(writes["complete_ns"], at // np.uint64(stretch), writes["nlb"], stretch)


def write_pointers(trace: Trace) -> dict[int, tuple[list[int], list[int]]]:
    """By zone, times in nanoseconds and the write pointer from then on, in blocks from the zone's start.

    Only what the trace shows: before a zone's first write it is where that began; a finished zone is full up to its size.
    """
    zsze = int(trace["zsze"].max(initial=0))
    seen = trace[succeeded(trace)]
    seen = seen[np.argsort(seen["complete_ns"], kind="stable")]
    seen = seen[np.isin(seen["opcode"], (*WRITES, NvmOpcode.ZONE_MANAGEMENT_SEND))]
    fields = ("complete_ns", "opcode", "slba", "nlb", "action", "select_all")
    pointers: dict[int, tuple[list[int], list[int]]] = {}
    for (when, opcode, slba, nlb, action, select_all), at in zip(
        seen[list(fields)].tolist(), written_at(seen).tolist(), strict=True
    ):
        if opcode != NvmOpcode.ZONE_MANAGEMENT_SEND:
            zone, offset = divmod(at, zsze)
            times, wps = pointers.setdefault(zone, ([when], [offset]))
            _move(times, wps, when, max(wps[-1], offset + nlb))
        elif action in (ZoneSendAction.RESET, ZoneSendAction.FINISH):
            for zone in list(pointers) if select_all else [slba // zsze]:
                times, wps = pointers.setdefault(zone, ([when], [0]))
                if action == ZoneSendAction.RESET:
                    _move(times, wps, when, 0)
                elif wps[-1] or not select_all:
                    _move(times, wps, when, zsze)
    return pointers


def _move(times: list[int], wps: list[int], when: int, wp: int) -> None:
    if wp != wps[-1]:
        times.append(when)
        wps.append(wp)
