"""Whether a trace can be carried out on a namespace: what is asked before anything is sent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aionvme.errors import UsageError
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction
from aionvme.nvme.transfer import ADDRESSES_BLOCKS, Direction, direction
from aionvme.prepare import describe
from aionvme.prepare_batch import refuse_metadata
from aionvme.replaying.commands import command_of
from aionvme.trace import Trace

_KNOWN = (*ADDRESSES_BLOCKS, NvmOpcode.FLUSH, NvmOpcode.ZONE_MANAGEMENT_SEND, NvmOpcode.ZONE_MANAGEMENT_RECEIVE)
_MOVES_BLOCKS = [opcode for opcode in ADDRESSES_BLOCKS if direction(opcode) is not Direction.NONE]


def check_fits(trace: Trace, ns: Namespace) -> None:
    """Raise UsageError unless a namespace can take all of a trace's commands.

    What failed when it was traced may be beyond the namespace's end: it fails once more.
    """
    refuse_metadata(ns._geometry)
    block_bytes = ns._geometry.block_bytes
    opcode, nlb, len_bytes = trace["opcode"], trace["nlb"], trace["len_bytes"].astype(np.uint64)
    zsze = ns.zsze if ns.zoned else 0
    _refuse(
        trace["block_bytes"] != block_bytes, trace, f"blocks of {{block_bytes}} bytes, and here they have {block_bytes}"
    )
    _refuse(trace["zsze"] != zsze, trace, f"zones of {{zsze}} blocks (0: none), and here they have {zsze}")
    no_data = (opcode == NvmOpcode.ZONE_MANAGEMENT_SEND) & (
        trace["action"] == ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION
    )
    _refuse(
        ~np.isin(opcode, _KNOWN) | no_data,
        trace,
        "what it does depends on data that no trace has; leave such commands out: trace[trace['opcode'] != {opcode}]",
    )
    if ns._geometry.protection is not None:
        _refuse(opcode == NvmOpcode.COMPARE, trace, "here it takes protection information, which no trace has")
    sends = opcode == NvmOpcode.ZONE_MANAGEMENT_SEND
    managed = sends | (opcode == NvmOpcode.ZONE_MANAGEMENT_RECEIVE)
    _refuse(
        (trace["action"] != (trace["cdw13"] & 0xFF) * managed) | (trace["select_all"] != (trace["cdw13"] >> 8 & sends)),
        trace,
        "action = {action:#x} and select_all = {select_all} are not what its dwords say",
    )
    addresses = np.isin(opcode, list(ADDRESSES_BLOCKS))
    _refuse(
        (nlb != np.where(addresses, (trace["cdw12"] & 0xFFFF) + 1, 0)) | (len_bytes != _len_bytes(trace, block_bytes)),
        trace,
        "nlb = {nlb} and len_bytes = {len_bytes} are not what its dwords say",
    )
    fits = (trace["slba"] < ns.nsze) & (nlb <= ns.nsze - np.minimum(trace["slba"], np.uint64(ns.nsze)))
    done = (trace["status"] == 0) & (trace["errno"] == 0)
    _refuse(done & ~fits, trace, f"beyond the end of the namespace, which has {ns.nsze:#x} blocks")
    longest = ns.max_append_bytes if ns.zoned else ns.max_transfer_bytes
    appends = opcode == NvmOpcode.ZONE_APPEND
    for which, most in ((appends, longest), (~appends, ns.max_transfer_bytes)):
        _refuse(which & (len_bytes > most), trace, f"{{len_bytes}} bytes, and one such command takes at most {most}")


def _len_bytes(trace: Trace, block_bytes: int) -> NDArray[np.uint64]:
    """How much data the commands move, by their dwords."""
    lengths: NDArray[np.uint64] = np.where(
        np.isin(trace["opcode"], _MOVES_BLOCKS), trace["nlb"].astype(np.uint64) * np.uint64(block_bytes), np.uint64(0)
    )
    receives = trace["opcode"] == NvmOpcode.ZONE_MANAGEMENT_RECEIVE
    lengths[receives] = (trace["cdw12"][receives].astype(np.uint64) + np.uint64(1)) * np.uint64(4)
    return lengths


def _refuse(wrong: NDArray[Any], trace: Trace, reason: str) -> None:
    """Raise UsageError for the first command that is wrong, naming it."""
    if wrong.any():
        i = int(np.argmax(wrong))
        row = dict(zip(trace.dtype.names or (), trace[i].item(), strict=True))
        what = describe(command_of(row["opcode"], row["slba"], row["cdw12"], row["cdw13"]))
        raise UsageError(f"the trace does not fit: command {i}, {what}: {reason.format(**row)}")
