"""How long commands take on flash: channels with dies on them, each of which does one thing at a time.

A page is programmed on its die after it has crossed the die's channel, and crosses it after it has been read: on its way it is in
a register, and the die can go on with something else. The pages of a zone lie on ``zone_dies`` dies in turn, those of a
conventional namespace on all of them. What a command needs is booked when it is carried out, by when its place is known, and
whoever comes later waits, or goes into a gap that those before it leave while they wait for something else.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from aionvme.emulator.flash_spec import FlashSpec
from aionvme.emulator.nvm import copied_extents
from aionvme.emulator.spec import DeviceSpec
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode, ZoneSendAction
from aionvme.nvme.status import Completion

COMMAND_NS = 5_000
"""How long a command takes that needs no flash: the controller's own time."""

_NS_PER_S = 1_000_000_000
_READS = frozenset({NvmOpcode.READ, NvmOpcode.COMPARE, NvmOpcode.VERIFY})
_WRITES = frozenset({NvmOpcode.WRITE, NvmOpcode.ZONE_APPEND})
_AT_WRITE_POINTER = _WRITES | {
    NvmOpcode.WRITE_ZEROES,
    NvmOpcode.WRITE_UNCORRECTABLE,
    NvmOpcode.COPY,
    NvmOpcode.ZONE_MANAGEMENT_SEND,
}
_SELECT_ALL = 1 << 8


class Station:
    """A die or a channel: it does one thing at a time, and knows what it will be doing when."""

    def __init__(self) -> None:
        # Intervals in order, which neither overlap nor touch.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def book(self, at: int, ready: int, duration: int) -> int:
        """Do something at the first opportunity from ``ready`` on, and say when it will be done.

        ``at`` is the time of booking, which never goes back; ``ready`` is not before it.
        """
        starts, ends = self._starts, self._ends
        over = bisect_right(ends, at)
        del starts[:over], ends[:over]
        i, start = bisect_right(ends, ready), ready
        while i < len(starts) and starts[i] - start < duration:
            start = max(start, ends[i])
            i += 1
        end = start + duration
        joins_last, joins_next = i > 0 and ends[i - 1] == start, i < len(starts) and starts[i] == end
        if joins_last and joins_next:
            del ends[i - 1], starts[i]
        elif joins_last:
            ends[i - 1] = end
        elif joins_next:
            starts[i] = start
        else:
            starts.insert(i, start)
            ends.insert(i, end)
        return end


class FlashTiming:
    """The times of the I/O commands of a device with ``model=flash``; see :class:`aionvme.emulator.timing.Timing`."""

    def __init__(self, spec: DeviceSpec, flash: FlashSpec, random: Random, written: Sequence[int]) -> None:
        """``written`` is the device's own list of the blocks below each zone's write pointer, empty where there are no zones."""
        self._flash = flash
        self._lba = spec.lba
        self._zone_size = spec.zone_size
        self._random = random
        self._written = written
        self._dies = [Station() for _ in range(flash.dies_total)]
        self._channels = [Station() for _ in range(flash.channels)]
        self._turns: dict[int, int] = {}
        """When the last command that was let to a zone's write pointer is done with it."""
        self._programmed = {index for index, blocks in enumerate(written) if blocks}
        """Zones that a reset has to erase."""

    def execute_at(self, now: int, command: Command) -> int:
        """At once, or where a zone's write pointer is needed, after those that came for it before."""
        if command.opcode not in _AT_WRITE_POINTER or not self._zone_size:
            return now
        if command.opcode == NvmOpcode.ZONE_MANAGEMENT_SEND and command.cdw13 & _SELECT_ALL:
            return now
        zone = self._zone(command.slba)
        if zone >= len(self._written):
            return now
        self._turns[zone] = max(now, self._turns.get(zone, 0)) + self._flash.append_ns
        return self._turns[zone]

    def complete_at(self, at: int, command: Command, completion: Completion, data: memoryview) -> int:
        """When the last page has been read, or programmed, or the last die erased; a command that failed has needed none."""
        opcode = command.opcode
        if completion.status:
            return at + COMMAND_NS
        nlb = (command.cdw12 & 0xFFFF) + 1
        if opcode in _READS:
            return self._read(at, command.slba, nlb)
        if opcode in _WRITES:
            slba = completion.result if opcode == NvmOpcode.ZONE_APPEND else command.slba
            return self._program(at, at, slba, nlb)
        if opcode == NvmOpcode.COPY:
            return self._copy(at, command, data)
        if opcode == NvmOpcode.ZONE_MANAGEMENT_SEND and command.cdw13 & 0xFF == ZoneSendAction.RESET:
            select_all = command.cdw13 & _SELECT_ALL
            return self._erase(at, list(self._programmed) if select_all else [self._zone(command.slba)])
        return at + COMMAND_NS

    def _read(self, at: int, slba: int, nlb: int) -> int:
        done = at
        for die, len_bytes in self._pages(slba, nlb):
            sensed = self._dies[die].book(at, at, self._jittered(self._flash.read_ns))
            done = max(done, self._cross(at, sensed, die, len_bytes))
        return done

    def _program(self, at: int, ready: int, slba: int, nlb: int) -> int:
        if self._zone_size:
            self._programmed.add(self._zone(slba))
        done = ready
        for die, len_bytes in self._pages(slba, nlb):
            loaded = self._cross(at, ready, die, len_bytes)
            done = max(done, self._dies[die].book(at, loaded, self._jittered(self._flash.program_ns)))
        return done

    def _copy(self, at: int, command: Command, data: memoryview) -> int:
        extents = copied_extents(command, data)
        ready = max(self._read(at, slba, nlb) for slba, nlb in extents)
        return self._program(at, ready, command.slba, sum(nlb for _, nlb in extents))

    def _erase(self, at: int, zones: Iterable[int]) -> int:
        done = at + COMMAND_NS
        for zone in zones:
            if zone in self._programmed and not self._written[zone]:
                self._programmed.discard(zone)
                for i in range(self._flash.zone_dies):
                    die = self._dies[(self._first_die(zone) + i) % len(self._dies)]
                    done = max(done, die.book(at, at, self._jittered(self._flash.erase_ns)))
        return done

    def _cross(self, at: int, ready: int, die: int, len_bytes: int) -> int:
        """Take a page over the channel of a die."""
        duration = -(-len_bytes * _NS_PER_S // self._flash.channel)
        return self._channels[die % len(self._channels)].book(at, ready, duration)

    def _pages(self, slba: int, nlb: int) -> Iterator[tuple[int, int]]:
        """The dies on which an extent's pages lie, and how many bytes of each page are its own."""
        page_len, n = self._flash.page, len(self._dies)
        start, first, width = slba * self._lba, 0, n
        if self._zone_size:
            zone, start = divmod(start, self._zone_size)
            first, width = self._first_die(zone), self._flash.zone_dies
        end = start + nlb * self._lba
        for page in range(start // page_len, -(-end // page_len)):
            len_bytes = min(end, (page + 1) * page_len) - max(start, page * page_len)
            yield (first + page % width) % n, len_bytes

    def _first_die(self, zone: int) -> int:
        return zone * self._flash.zone_dies % len(self._dies)

    def _zone(self, slba: int) -> int:
        return slba * self._lba // self._zone_size

    def _jittered(self, duration: int) -> int:
        jitter = self._flash.jitter / 100
        return round(duration * self._random.uniform(1 - jitter, 1 + jitter))
