"""The data of commands that are sent again: noise, in which each block says which one it is."""

import numpy as np
from numpy.typing import NDArray

from aionvme.namespace import Namespace
from aionvme.nvme.transfer import Direction, direction
from aionvme.trace import Trace

Memory = NDArray[np.uint8]


class Buffers:
    """Registered buffers, as many as were in use at once; those that are sent are full of noise from the start."""

    def __init__(self, trace: Trace, ns: Namespace, block_bytes: int) -> None:
        self._ns = ns
        self._block_bytes = block_bytes
        self._noise = np.frombuffer(np.random.default_rng(0).bytes(block_bytes), np.uint8)
        self._free: dict[Direction, list[Memory]] = {}
        self._size: dict[Direction, int] = {}
        for opcode in np.unique(trace["opcode"]):
            way = direction(int(opcode))
            longest = int(trace["len_bytes"][trace["opcode"] == opcode].max())
            self._size[way] = max(self._size.get(way, 0), longest)

    def take(self, way: Direction) -> Memory:
        """A buffer that is long enough for every command of a direction."""
        free = self._free.setdefault(way, [])
        if free:
            return free.pop()
        buffer = self._ns.alloc(self._size[way])
        if way is Direction.HOST_TO_CONTROLLER:
            buffer.reshape(-1, self._block_bytes)[:] = self._noise
        return buffer

    def give(self, way: Direction, buffer: Memory) -> None:
        """Give it back."""
        self._free[way].append(buffer)

    def stamp(self, buffer: Memory, lba: int, nlb: int) -> None:
        """Have the first 8 bytes of each block be its address, the first block's being ``lba``."""
        addresses = np.arange(nlb, dtype="<u8") + np.uint64(lba)
        buffer[: nlb * self._block_bytes].reshape(nlb, -1)[:, :8] = addresses.view(np.uint8).reshape(nlb, 8)
