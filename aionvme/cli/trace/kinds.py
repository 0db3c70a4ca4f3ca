"""What people call the commands of a trace: by opcode, and by action where an opcode has several."""

import numpy as np
from numpy.typing import NDArray

from aionvme.nvme.opcodes import NvmOpcode, ZoneReceiveAction, ZoneSendAction
from aionvme.trace import Trace

_SEND, _RECEIVE = NvmOpcode.ZONE_MANAGEMENT_SEND, NvmOpcode.ZONE_MANAGEMENT_RECEIVE

_NAMES = {
    **{(opcode.value, 0): opcode.name.replace("_", " ").lower() for opcode in NvmOpcode},
    **{(_SEND.value, action.value): f"{action.name.replace('_', ' ').lower()} zone" for action in ZoneSendAction},
    (_SEND, ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION): "set zone descriptor extension",
    (_SEND, ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE): "flush explicit zrwa range",
    (_RECEIVE, ZoneReceiveAction.REPORT_ZONES): "report zones",
    (_RECEIVE, ZoneReceiveAction.EXTENDED_REPORT_ZONES): "extended report zones",
}

WRITES = (NvmOpcode.WRITE, NvmOpcode.ZONE_APPEND, NvmOpcode.WRITE_ZEROES, NvmOpcode.WRITE_UNCORRECTABLE)


def kinds_of(trace: Trace) -> dict[str, NDArray[np.bool_]]:
    """Which commands are of which kind, the kinds by opcode and action."""
    pairs = np.unique(trace[["opcode", "action"]]).tolist()
    return {
        _NAMES.get((opcode, action), f"opcode {opcode:#04x}" + (f", action {action:#04x}" if action else "")): (
            (trace["opcode"] == opcode) & (trace["action"] == action)
        )
        for opcode, action in pairs
    }


def succeeded(trace: Trace) -> NDArray[np.bool_]:
    """Which commands have completed without error."""
    done: NDArray[np.bool_] = (trace["complete_ns"] > 0) & (trace["status"] == 0) & (trace["errno"] == 0)
    return done


def latency_us(trace: Trace) -> NDArray[np.float64]:
    """How long each took that succeeded."""
    done = trace[succeeded(trace)]
    latencies: NDArray[np.float64] = (done["complete_ns"] - done["submit_ns"]) / 1000
    return latencies


def written_at(trace: Trace) -> NDArray[np.uint64]:
    """Where commands that write have written: an append where it landed."""
    return np.where(trace["opcode"] == NvmOpcode.ZONE_APPEND, trace["result"], trace["slba"])
