"""When commands happen on a device with a model, in times reckoned by hand.

Flash that is easy to reckon with: a read takes 50 us, a program 400 us, an erase 3 ms, a turn at a write pointer 2 us, and a
block of 4 KiB crosses a channel in 1 us, so a page of 16 KiB in 4 us. Dies are numbered over the channels: with two channels,
dies 0 and 2 are on the first. Pages of a zone lie on as many dies as it has, in turn, and the next zone's on the next dies.
"""

import heapq
import random
import time
from collections.abc import Callable, Iterable
from itertools import count

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import aionvme
from aionvme.emulator import Device, parse_spec
from aionvme.emulator.flash import Station
from aionvme.emulator.flash_spec import FlashSpec
from aionvme.emulator.timing import timing_of
from aionvme.errors import UsageError
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ZoneSendAction

Open = Callable[[str], Device]

TIMES = "model=flash&read=50us&program=400us&channel=4096000000/s"
FLASH = f"{TIMES}&jitter=0%"
ZONE = 256
"""Blocks of a zone: 1 MiB."""
US, MS = 1_000, 1_000_000
RESET, FINISH = ZoneSendAction.RESET, ZoneSendAction.FINISH


def zns(query: str) -> str:
    """A zoned device with 32 zones of 64 pages."""
    return f"emu:zns?zones=32&zone_size=1MiB&erase=3ms&append=2us&{FLASH}&{query}"


class Host:
    """Submits commands at virtual times, and carries them out in the order in which the timing has them."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.timing = timing_of(device, random.Random(device.spec.seed), admin=False)
        self.results: dict[int, tuple[int, int]] = {}
        """Status and result of each command, by its number."""
        self._events: list[tuple[int, int, int, Command, bytes, bool]] = []
        self._order = count()
        self._numbers = count()

    def submit(self, now: int, command: Command, data: bytes | None = None) -> int:
        """Submit now; gives the command's number."""
        number = next(self._numbers)
        due = self.timing.execute_at(now, command._replace(nsid=1))
        data = bytes(((command.cdw12 & 0xFFFF) + 1) * self.device.spec.lba) if data is None else data
        heapq.heappush(self._events, (due, next(self._order), number, command._replace(nsid=1), data, False))
        return number

    def step(self) -> tuple[int, int]:
        """Go on to the next completion, and say when it is and whose."""
        while True:
            at, _, number, command, data, done = heapq.heappop(self._events)
            if done:
                return at, number
            memory = memoryview(bytearray(data))
            completion = self.device.execute(command, memory)
            self.results[number] = completion
            complete_at = self.timing.complete_at(at, command, completion, memory)
            assert complete_at >= at
            heapq.heappush(self._events, (complete_at, next(self._order), number, command, data, True))

    def run(self, *submissions: tuple[int, Command] | tuple[int, Command, bytes]) -> list[int]:
        """Submit each at its time; gives the time of each completion."""
        numbers = [self.submit(*each) for each in submissions]
        times = {number: at for at, number in (self.step() for _ in numbers)}
        return [times[number] for number in numbers]


@pytest.fixture
def host(open_device: Open) -> Callable[[str], Host]:
    """Make hosts with a device each, from its description."""
    return lambda text: Host(open_device(text))


Make = Callable[[str], Host]


def page_of(page: int, nlb: int = 4) -> Command:
    """Read ``nlb`` blocks of a page."""
    return nvm.read(4 * page, nlb)


@pytest.mark.parametrize(
    ("nlb", "expected"),
    [
        (1, 51 * US),  # a block: 50 + 1
        (4, 54 * US),  # a page: 50 + 4
        (8, 54 * US),  # two pages, on two dies of two channels
        (16, 104 * US),  # four pages: two on each die, the second of which is read while the first crosses
    ],
)
def test_one_read(host: Make, nlb: int, expected: int) -> None:
    """A page is read from its die and crosses the channel; dies and channels work side by side."""
    assert host(zns("channels=2&dies=2&zone_dies=2")).run((0, nvm.read(0, nlb))) == [expected]


def test_two_reads(host: Make) -> None:
    """On one die the second waits for the first, on two dies it does not; zone 2 starts on the die of zone 0 again."""
    spec = zns("channels=2&dies=2&zone_dies=2")
    assert host(spec).run((0, nvm.read(0, 1)), (0, nvm.read(1, 1))) == [51 * US, 101 * US]
    assert host(spec).run((0, nvm.read(0, 1)), (0, nvm.read(4, 1))) == [51 * US, 51 * US]
    assert host(spec).run((0, nvm.read(0, 1)), (10 * US, nvm.read(2 * ZONE, 1))) == [51 * US, 101 * US]
    # Zone 1 starts on the third die, which shares the channel of the first: one block waits while the other crosses.
    assert host(spec).run((0, nvm.read(0, 1)), (0, nvm.read(ZONE, 1))) == [51 * US, 52 * US]


def test_a_channel_carries_one_page_at_a_time(host: Make) -> None:
    """Four dies on a channel: pages that were read side by side cross it one by one, and so do those to be programmed."""
    spec = f"emu:nvm?lba=4096&channels=1&dies=4&{FLASH}"
    reads = [(0, page_of(page)) for page in range(4)]
    assert host(spec).run(*reads) == [54 * US, 58 * US, 62 * US, 66 * US]
    writes = [(0, nvm.write(4 * page, 4)) for page in range(4)]
    assert host(spec).run(*writes) == [404 * US, 408 * US, 412 * US, 416 * US]


def test_a_channel_is_free_while_a_page_is_read(host: Make) -> None:
    """A page that is still being read does not keep a later one from crossing to another die."""
    spec = f"emu:nvm?lba=4096&channels=1&dies=2&{FLASH}"
    assert host(spec).run((0, page_of(0)), (10 * US, nvm.write(4, 4))) == [54 * US, (10 + 4 + 400) * US]
    # This one finds the channel free for 3 us at 47 us, too short, and crosses after the page that was read.
    assert host(spec).run((0, page_of(0)), (47 * US, nvm.write(4, 4))) == [54 * US, (54 + 4 + 400) * US]


def test_a_conventional_namespace_lies_on_all_dies(host: Make) -> None:
    """Sixteen pages on eight dies take two reads' time, whatever their addresses are a multiple of."""
    assert host(f"emu:nvm?lba=4096&channels=8&dies=1&{FLASH}").run((0, nvm.read(4 * 5, 64))) == [104 * US]


def test_reads_wait_for_programs(host: Make) -> None:
    """A read of the die that is being programmed waits until that is over; on another die it does not."""
    on_it, beside = (
        host(zns("channels=2&dies=1&zone_dies=2")).run((0, zoned.zone_append(0, 4)), (100 * US, nvm.read(0, 1))),
        host(zns("channels=2&dies=1&zone_dies=2")).run((0, zoned.zone_append(0, 4)), (100 * US, nvm.read(4, 1))),
    )
    assert on_it == [406 * US, 457 * US]  # 2 + 4 + 400, then 50 + 1
    assert beside == [406 * US, 151 * US]


@pytest.mark.parametrize("zone_dies", [1, 2, 4, 8])
def test_appends_to_one_zone_are_as_fast_as_its_dies(host: Make, zone_dies: int) -> None:
    """Of 64 pages appended at once, each die programs its share, from when its first page has had its turn and crossed."""
    host_ = host(zns(f"channels=8&dies=1&zone_dies={zone_dies}"))
    done = host_.run(*((0, zoned.zone_append(0, 4)) for _ in range(64)))
    assert max(done) == (2 * zone_dies + 4 + 400 * 64 // zone_dies) * US
    assert [host_.results[i] for i in range(64)] == [(0, 4 * i) for i in range(64)]


def rate(host: Host, zones: Iterable[int], depth: int, each: int) -> float:
    """Appends of a page per ms with ``depth`` of them in flight to each zone, until each zone has had ``each`` of them."""
    left = dict.fromkeys(zones, each - depth)
    owners = {host.submit(0, zoned.zone_append(zone * ZONE, 4)): zone for zone in left for _ in range(depth)}
    at, total = 0, each * len(left)
    for _ in range(total):
        at, number = host.step()
        zone = owners[number]
        if left[zone]:
            left[zone] -= 1
            owners[host.submit(at, zoned.zone_append(zone * ZONE, 4))] = zone
    assert all(status == 0 for status, _ in host.results.values())
    return total / at * MS


@pytest.mark.parametrize(("depth", "dies_busy"), [(1, 1), (2, 2), (4, 4), (8, 4), (16, 4)])
def test_appends_to_one_zone_scale_up_to_its_dies(host: Make, depth: int, dies_busy: int) -> None:
    """The rate grows with the depth up to the dies of a zone, and no further: each does one page in some 400 us."""
    found = rate(host(zns("channels=8&dies=2&zone_dies=4")), [0], depth, 64)
    assert found == pytest.approx(dies_busy / 0.4, rel=0.05)


@pytest.mark.parametrize(
    ("zones", "dies_busy"), [([0], 4), ([0, 1], 8), ([0, 1, 2, 3], 16), ([0, 4], 4), (range(8), 16)]
)
def test_many_zones_scale_to_all_dies(host: Make, zones: list[int], dies_busy: int) -> None:
    """Zones on dies of their own add up, until all 16 dies are busy; zones 0 and 4 share theirs."""
    found = rate(host(zns("channels=8&dies=2&zone_dies=4")), zones, 8, 64)
    assert found == pytest.approx(dies_busy / 0.4, rel=0.05)


def test_turns_limit_the_appends_to_one_zone(host: Make) -> None:
    """Where programs are fast, a zone takes one append in each turn's time; two zones take two."""
    spec = (
        zns("channels=8&dies=2&zone_dies=16")
        .replace("program=400us", "program=10us")
        .replace("append=2us", "append=5us")
    )
    assert rate(host(spec), [0], 16, 64) == pytest.approx(1 / 0.005, rel=0.1)
    assert rate(host(spec), [0, 1], 16, 64) == pytest.approx(2 / 0.005, rel=0.2)


def test_a_reset_delays_what_is_on_its_dies(host: Make) -> None:
    """It erases each die of the zone: reads there wait, in whatever zone; those elsewhere do not."""
    host_ = host(zns("channels=4&dies=1&zone_dies=2"))
    host_.run((0, zoned.zone_append(0, 4)))
    reset = zoned.zone_management_send(RESET, 0)
    there, elsewhere = nvm.read(2 * ZONE + 4, 1), nvm.read(ZONE, 1)  # zone 2 has zone 0's dies, zone 1 the other two
    times = host_.run((10 * MS, reset, b""), (10 * MS + 3 * US, there), (10 * MS + 3 * US, elsewhere))
    erased = 10 * MS + 2 * US + 3 * MS
    assert times == [erased, erased + 51 * US, 10 * MS + 54 * US]


def test_only_what_was_written_is_erased(host: Make) -> None:
    """Resetting an empty zone takes its turn and 5 us, and so do the other actions; a reset of all erases where there is data."""
    host_ = host(zns("channels=4&dies=1&zone_dies=2"))
    reset, finish = (zoned.zone_management_send(action, ZONE) for action in (RESET, FINISH))
    reset_all = zoned.zone_management_send(RESET, select_all=True)
    assert host_.run((0, reset, b"")) == [7 * US]
    assert host_.run((MS, finish, b"")) == [MS + 7 * US]
    assert host_.run((2 * MS, reset, b"")) == [2 * MS + 7 * US]
    assert host_.run((3 * MS, reset_all, b"")) == [3 * MS + 5 * US]
    host_.run(*((4 * MS, zoned.zone_append(zone * ZONE, 1)) for zone in (0, 1, 2)))
    assert host_.run((10 * MS, reset_all, b"")) == [16 * MS]  # zones 0 and 2 share their dies
    assert host_.run((20 * MS, reset_all, b"")) == [20 * MS + 5 * US]


def test_what_a_file_holds_is_erased(host: Make, tmp_path: object) -> None:
    """A zone that was written before the device was opened takes as long to reset as any other."""
    spec = zns(f"channels=1&dies=1&zone_dies=1&file={tmp_path}/zns.img")
    first = host(spec)
    first.run((0, zoned.zone_append(0, 1)))
    first.device.close()
    assert host(spec).run((0, zoned.zone_management_send(RESET, 0), b"")) == [2 * US + 3 * MS]


def test_what_is_over_is_forgotten() -> None:
    """A station keeps no more than what it is yet to do, as one piece where that is without a pause."""
    station = Station()
    assert [station.book(at, at, 3) for at in range(0, 1000, 10)] == list(range(3, 1003, 10))
    assert [station.book(1000, ready, 5) for ready in (1000, 1010, 1000, 1000)] == [1005, 1015, 1010, 1020]
    assert (station._starts, station._ends) == ([1000], [1020])


def test_completions_come_in_another_order_than_addresses(host: Make) -> None:
    """The first append's die is being read, so the second, one page further on another die, completes before it."""
    host_ = host(zns("channels=2&dies=1&zone_dies=2"))
    _, first, second = host_.run((0, nvm.read(0, 1)), (0, zoned.zone_append(0, 4)), (0, zoned.zone_append(0, 4)))
    assert (first, second) == ((50 + 400) * US, (4 + 4 + 400) * US)
    assert (host_.results[1], host_.results[2]) == ((0, 0), (0, 4))


def test_a_copy_reads_and_programs(host: Make) -> None:
    """Two blocks are read from a die, and then written to another zone, whose turn it was: 2 + 50 + 50 + 1, and 2 + 400."""
    host_ = host(zns("channels=4&dies=1&zone_dies=2"))
    host_.run((0, zoned.zone_append(0, 2)))
    assert host_.run((MS, nvm.copy(ZONE, 2), nvm.copy_ranges([(0, 1), (1, 1)]))) == [MS + 505 * US]
    assert host_.run((2 * MS, zoned.zone_management_send(RESET, ZONE), b"")) == [5 * MS + 2 * US]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (nvm.flush(), 5),
        (nvm.read(32 * ZONE, 1), 5),  # past the end
        (nvm.write(1, 1), 7),  # not at the write pointer
        (zoned.zone_append(64 * ZONE, 1), 5),  # no such zone, no turn
        (nvm.write_zeroes(0, 8), 7),
        (Command(0x90), 5),
    ],
)
def test_what_needs_no_flash(host: Make, command: Command, expected: int) -> None:
    """Commands that fail or that move no data take 5 us, after the turn of those that are for a write pointer."""
    host_ = host(zns("channels=1&dies=1&zone_dies=1"))
    assert host_.run((0, command)) == [expected * US]
    assert host_.run((1 * MS, nvm.read(0, 1))) == [MS + 51 * US]


def test_admin_commands(open_device: Open) -> None:
    """Each takes 5 us."""
    timing = timing_of(open_device(zns("dies=4")), random.Random(0), admin=True)
    assert timing.execute_at(1000, Command(0x06)) == 6000


def test_jitter_is_drawn_from_the_seed(host: Make) -> None:
    """Times vary by as much as was asked for, the same way each time the seed is the same."""

    def times(seed: int) -> list[int]:
        host_ = host(f"emu:zns?{TIMES}&jitter=10%&seed={seed}")
        return [host_.run((at * MS, nvm.read(0, 1)))[0] - at * MS for at in range(200)]

    first = times(1)
    assert all(46 * US <= each <= 56 * US for each in first)
    assert min(first) < 47 * US
    assert max(first) > 55 * US
    assert times(1) == first
    assert times(2) != first


def test_without_a_model_times_are_drawn(open_device: Open) -> None:
    """A command is carried out when it completes, at a time of Python's generator for the seed: one draw for each."""
    timing = timing_of(open_device("emu:nvm?latency=10us-90us&seed=7"), random.Random(7), admin=False)
    oracle = random.Random(7)
    for now in range(100):
        at = timing.execute_at(now, nvm.read(0, 1))
        assert at == now + oracle.randint(10 * US, 90 * US)
        assert timing.complete_at(at, nvm.read(0, 1), aionvme.Completion(aionvme.Status(0), 0), memoryview(b"")) == at


def test_every_option() -> None:
    """Each key ends up in the field of its name, times in nanoseconds, sizes in bytes."""
    spec = parse_spec(
        "emu:zns?model=flash&channels=2&dies=3&zone_dies=5&page=8KiB&read=1us&program=2ms&erase=1s&append=0us"
        "&channel=1GiB/s&jitter=7%"
    )
    assert spec.flash == FlashSpec(
        channels=2,
        dies=3,
        zone_dies=5,
        page=8192,
        read_ns=1_000,
        program_ns=2_000_000,
        erase_ns=1_000_000_000,
        append_ns=0,
        channel=1 << 30,
        jitter=7,
    )
    assert parse_spec("emu:zns?model=flash").flash == parse_spec("emu:nvm?model=flash").flash == FlashSpec()
    assert parse_spec("emu:zns?model=flash&channels=1&dies=2").flash == FlashSpec(channels=1, dies=2, zone_dies=2)
    assert parse_spec("emu:zns").flash is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("emu:zns?model=disk", "model=disk"),
        ("emu:zns?channels=8&erase=1ms", "channels, erase: only with model=flash"),
        ("emu:nvm?latency=1us&model=flash", "model and latency are both given"),
        ("emu:nvm?model=flash&latency=0us", "model and latency are both given"),
        ("emu:nvm?model=flash&zone_dies=2", "emu:nvm takes size"),
        ("emu:nvm?model=flash&erase=1ms", "emu:nvm takes size"),
        ("emu:zns?model=flash&channels=0", "channels=0: it takes at least 1"),
        ("emu:zns?model=flash&dies=0", "dies=0: it takes at least 1"),
        ("emu:zns?model=flash&zone_dies=0", "zone_dies=0: it takes at least 1"),
        ("emu:zns?model=flash&channels=2&dies=2&zone_dies=5", "zone_dies=5: more than the 4 there are"),
        ("emu:zns?model=flash&channels=1000&dies=1000", "at most 65536 dies"),
        ("emu:zns?model=flash&page=0", "page=0: it takes at least 1"),
        ("emu:zns?model=flash&page=6KiB", "page=6144: not a multiple of the logical block, 4096 bytes"),
        ("emu:zns?model=flash&read=0us", "read=0ns: it takes some time"),
        ("emu:zns?model=flash&program=50us-60us", "program=50us-60us: it takes a time"),
        ("emu:zns?model=flash&erase=3", "erase=3: it takes a time"),
        ("emu:zns?model=flash&channel=800MiB", "channel=800MiB: it takes bytes per second, such as 800MiB/s"),
        ("emu:zns?model=flash&channel=0/s", "channel=0: it takes at least 1"),
        ("emu:zns?model=flash&channel=fast/s", "channel=fast"),
        ("emu:zns?model=flash&jitter=5", "jitter=5: it takes whole percents, such as 5%"),
        ("emu:zns?model=flash&jitter=99%", "jitter=99%: at most 90%"),
    ],
)
def test_options_that_make_no_sense_are_refused(text: str, said: str) -> None:
    """A UsageError names the option and what would do."""
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert said in str(caught.value)


@pytest.mark.anyio
async def test_reads_take_their_time() -> None:
    """On every loop the median of 50 reads is at least the model's 51 us, and not the millisecond to which loops round."""
    async with aionvme.open(f"emu:nvm?lba=4096&{FLASH}") as ns:
        buffer = ns.alloc(4096)
        with ns.latencies() as seen:
            for _ in range(50):
                await ns.read(0, 1, into=buffer)
        assert 51 * US <= seen.percentile_ns(50) < 800 * US


@pytest.mark.anyio
@pytest.mark.parametrize(("zone_dies", "programs"), [(1, 32), (8, 4)])
async def test_appends_on_every_loop(zone_dies: int, programs: int) -> None:
    """Pages get places in the order of their turns, complete in another, hold their data, and take as long as their dies."""
    spec = f"emu:zns?zone_size=1MiB&{TIMES}&jitter=50%&channels=8&dies=1&zone_dies={zone_dies}"
    async with aionvme.open(spec) as ns:
        data = np.repeat(np.arange(32, dtype=np.uint8), 4 * 4096)
        done = await ns.append_many(np.zeros(32, np.uint64), 4, data)
        assert done["status"].tolist() == [0] * 32
        assert done["result"].tolist() == list(range(0, 128, 4))
        order = np.argsort(done["latency_ns"], kind="stable").tolist()
        assert (order == sorted(order)) == (zone_dies == 1)
        assert done["latency_ns"].max() >= programs * 200 * US  # each is at least half of its 400 us
        assert np.array_equal(await ns.read(0, 128), data)


@pytest.mark.anyio
async def test_a_command_is_carried_out_before_it_completes() -> None:
    """An append has moved the write pointer long before its program ends; until then its buffer is its own, cancelled or not."""
    async with aionvme.open("emu:zns?model=flash&program=30ms&jitter=0%") as ns:
        data = bytearray(ns.lba_size)
        start = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ns.zone_append, 0, data)
            while (await ns.report_zones(0, nr_zones=1))["wp"][0] == 0:
                pass
            with pytest.raises(BufferError):
                data.append(0)
            tasks.cancel_scope.cancel()
        assert time.monotonic() - start >= 0.03
        data.append(0)


@pytest.mark.anyio
async def test_a_late_loop_delays_nothing_more() -> None:
    """What was due while the loop was away is over when it comes back: 10 ms of turn and 130 of program within 150."""
    async with aionvme.open("emu:zns?model=flash&append=10ms&program=130ms&jitter=0%") as ns:
        start = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ns.zone_append, 0, bytes(ns.lba_size))
            while not ns._io.in_flight:
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.001)
            time.sleep(0.15)  # noqa: ASYNC251
        assert 0.15 <= time.monotonic() - start < 0.25
