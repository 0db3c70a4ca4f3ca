"""Limiters: what passes and when, who waits for whom, and that whoever leaves, however that is, takes nothing along."""

import asyncio
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

import aionvme
from aionvme import Limiter
from aionvme.driver import limiter as module
from aionvme.driver.limiter import BURST_S
from aionvme.nvme.command import decode
from tests.conftest import leave_by_force

NEVER = 1e-3
"""Commands a second: after the first, nothing passes in the time of a test."""


async def until(condition: Callable[[], object]) -> None:
    """Wait for what has no event."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


def group_in_flight(*namespaces: aionvme.Namespace) -> int:
    """Commands in flight that passed a limiter."""
    groups = [flight.group for ns in namespaces for flight in ns._io.flights.flights()]
    return sum(group is not None and group.limiter is not None for group in groups)


def assert_idle(limiter: Limiter, depth: float = math.inf) -> None:
    """Every place is back, nobody waits, no timer is left."""
    assert (limiter._free, list(limiter._line), limiter._alarm) == (depth, [], None)


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Callable[[aionvme.Namespace], list[int]]:
    """Lists the LBA of each command that a namespace's queue gets, in the order in which it gets them."""

    def watch(ns: aionvme.Namespace) -> list[int]:
        lbas: list[int] = []
        stage = ns._io.queue.stage

        def record(user_data: int, entry: bytes, buf_index: int) -> None:
            lbas.append(decode(entry)[0].slba)
            stage(user_data, entry, buf_index)

        monkeypatch.setattr(ns._io.queue, "stage", record)
        return lbas

    return watch


@contextmanager
def held(ns: aionvme.Namespace) -> Iterator[None]:
    """Inside of this, no command of a namespace completes."""
    queue: Any = ns._io.queue
    queue.tick = lambda budget: b""
    try:
        yield
    finally:
        del queue.tick


Staged = Callable[[aionvme.Namespace], list[int]]


@pytest.mark.anyio
@pytest.mark.parametrize("depth", [1, 3])
async def test_no_more_than_depth_are_in_flight(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of many tasks, one of them split into 16 commands, together fill the depth and never exceed it."""
    seen: list[int] = []
    limiter = Limiter(depth=depth)
    async with aionvme.open("emu:nvm?lba=4096&mdts=16KiB&latency=100us-2ms") as ns:
        tick = ns._io.queue.tick

        def sample(budget: int) -> Any:
            seen.append(ns._io.in_flight)
            return tick(budget)

        monkeypatch.setattr(ns._io.queue, "tick", sample)
        tenant = ns.limited(limiter)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tenant.read, 0, 64)
            for i in range(20):
                tasks.start_soon(tenant.read, i, 1)
        assert ns._io.submitted == 36
    assert max(seen) == depth
    assert_idle(limiter, depth)


@pytest.mark.anyio
async def test_the_parts_of_one_call_overlap_up_to_depth() -> None:
    """A split read alone has as many commands in flight as the limiter allows, and reads the right data."""
    async with aionvme.open("emu:nvm?lba=4096&mdts=16KiB&latency=10ms") as ns:
        data = np.arange(64 * 4096 // 8).view(np.uint8)
        await ns.write(0, data)
        got: list[np.ndarray] = []

        async def read() -> None:
            got.append(await ns.limited(Limiter(depth=5)).read(0, 64))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await until(lambda: ns._io.in_flight == 5)
        assert np.array_equal(got[0], data)


@pytest.mark.anyio
@pytest.mark.parametrize("limits", [{"depth": 1}, {"commands_per_s": 40}], ids=["depth", "rate"])
async def test_first_come_first_served(limits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands pass in the order in which their tasks came; one that is cancelled in line is passed over."""
    limiter = Limiter(**limits)
    passed: list[int] = []
    take = limiter._take

    def record(len_bytes: int, now: float) -> None:
        passed.append(len_bytes // 4096)
        take(len_bytes, now)

    monkeypatch.setattr(limiter, "_take", record)
    async with aionvme.open("emu:nvm?lba=4096") as ns, anyio.create_task_group() as tasks:
        tenant = ns.limited(limiter)
        scopes = [anyio.CancelScope() for _ in range(8)]

        async def read(nlb: int) -> None:
            with scopes[nlb - 1]:
                await tenant.read(0, nlb)

        now = time.monotonic()
        with held(ns), pytest.MonkeyPatch.context() as time_stops:
            time_stops.setattr(module, "monotonic", lambda: now)
            for nlb in range(1, 9):
                tasks.start_soon(read, nlb)
                await until(lambda nlb=nlb: len(passed) + len(limiter._line) == nlb)  # type: ignore[misc]
            scopes[6].cancel()
            await until(lambda: len(limiter._line) == 6)
            now += 100
            assert not limiter.take_nowait(0)  # who comes when those in line could go, but have not been told yet
            assert passed == [1]
    assert passed == [1, 2, 3, 4, 5, 6, 8]


@pytest.mark.anyio
async def test_a_limited_group_leaves_room_for_others(staged: Staged) -> None:
    """However many tasks of a limited group wait, they hold no place in the queue: who is not limited goes at once."""
    async with aionvme.open("emu:nvm?lba=4096&latency=5ms", depth=4) as ns, anyio.create_task_group() as tasks:
        lbas = staged(ns)
        tenant = ns.limited(Limiter(depth=3))
        for i in range(60):
            tasks.start_soon(tenant.read, i, 1)
        await until(lambda: len(lbas) == 3)
        await ns.read(1000, 1)
        assert lbas.index(1000) < 12


@pytest.mark.anyio
async def test_a_limited_group_gets_its_turn_in_a_full_queue(staged: Staged) -> None:
    """Many tasks that keep the queue full do not keep a limited one out: it waits in the queue's line like they do."""
    async with aionvme.open("emu:nvm?lba=4096&latency=100us", depth=4) as ns:
        lbas = staged(ns)
        tenant = ns.limited(Limiter(depth=1, commands_per_s=1e6))
        done = False

        async def flood() -> None:
            while not done:
                await ns.read(0, 1)

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(flood)
            await until(lambda: len(lbas) > 30)
            with anyio.fail_after(10):
                for i in range(1, 11):
                    await tenant.read(i, 1)
            done = True
    turns = [at for at, lba in enumerate(lbas) if lba]
    assert max(b - a for a, b in itertools.pairwise(turns)) < 150


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limits", "nlb", "per_s"),
    [
        pytest.param({"commands_per_s": 1000}, 1, 1000, id="commands"),
        pytest.param({"bytes_per_s": 1000 * 8192.0, "commands_per_s": 5000}, 2, 1000, id="bytes"),
        pytest.param({"bytes_per_s": 20 * (64 << 12), "depth": 2}, 64, 20, id="large commands"),
    ],
)
async def test_long_term_rates(limits: Any, nlb: int, per_s: int) -> None:
    """Many tasks get the rate that was asked for: never more of it, and little less but for times when the loop stood still."""
    calls = per_s // 3
    still_s = 0.0

    async def watch() -> None:
        nonlocal still_s
        last = time.monotonic()
        while True:
            await anyio.sleep(0.001)
            now = time.monotonic()
            still_s += now - last if now - last > BURST_S / 2 else 0
            last = now

    async with aionvme.open("emu:nvm?lba=4096", depth=64) as ns, anyio.create_task_group() as watching:
        watching.start_soon(watch)
        for _ in range(3):
            tenant = ns.limited(Limiter(**limits))
            left = iter(range(calls))

            async def work(left: Any = left, tenant: aionvme.Namespace = tenant) -> None:
                for _ in left:
                    await tenant.read(0, nlb)

            start, still_s = time.monotonic(), 0.0
            async with anyio.create_task_group() as tasks:
                for _ in range(16):
                    tasks.start_soon(work)
            took = time.monotonic() - start
            assert took >= (calls - 1) / per_s - BURST_S
            if took - still_s < 1.05 * calls / per_s:
                break
        else:
            pytest.fail(f"{calls} calls at {per_s} a second took {took:.3f} s, and that was the third time")
        watching.cancel_scope.cancel()


@pytest.mark.anyio
async def test_waiting_costs_no_processor_time() -> None:
    """Half a second in line is spent asleep."""
    async with aionvme.open("emu:nvm") as ns:
        tenant = ns.limited(Limiter(commands_per_s=4))
        before = time.process_time()
        async with anyio.create_task_group() as tasks:
            for i in range(3):
                tasks.start_soon(tenant.read, i, 1)
        assert time.process_time() - before < 0.1


@pytest.mark.anyio
async def test_no_timer_is_shorter_than_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next command may go in 200 us, the timer is for a millisecond all the same, and then several go."""
    delays: list[float] = []
    limiter = Limiter(commands_per_s=5000)
    async with aionvme.open("emu:nvm") as ns, anyio.create_task_group() as tasks:
        call_later = ns._io._host.call_later

        def record(delay: float, callback: Callable[[], None]) -> Any:
            delays.append(delay)
            return call_later(delay, callback)

        monkeypatch.setattr(ns._io._host, "call_later", record)
        now = time.monotonic()
        with pytest.MonkeyPatch.context() as time_stops:
            time_stops.setattr(module, "monotonic", lambda: now)
            tenant = ns.limited(limiter)
            for i in range(120):
                tasks.start_soon(tenant.read, i, 1)
            await until(lambda: ns._io.submitted + len(limiter._line) == 120)
            assert 100 <= ns._io.submitted <= 102  # 20 ms of the rate
            now += 0.001
            await until(lambda: ns._io.submitted > 104)
    assert min(delays) == 0.001


@given(
    st.floats(0.1, 1e4),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1 << 16), st.booleans()), min_size=2, max_size=40),
)
def test_no_window_has_more_than_its_rate(per_s: float, arrivals: list[tuple[float, int, bool]]) -> None:
    """Whatever comes when, in any t seconds commands and bytes stay within t + 0.02 times their rates, and one command.

    And no command has to wait longer than what went before it takes to be paid.
    """
    now = 1000.0
    bytes_per_s = per_s * 4096
    limiter = Limiter(commands_per_s=per_s, bytes_per_s=bytes_per_s)
    passed: list[tuple[float, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", lambda: now)
        for gap, len_bytes, patient in arrivals:
            now += gap
            if patient:
                now = max(now, limiter._due)
            if limiter.take_nowait(len_bytes):
                passed.append((now, len_bytes))
            else:
                assert not patient
    for i, j in itertools.combinations(range(len(passed)), 2):
        t = passed[j][0] - passed[i][0] + BURST_S + 1e-6
        assert j - i <= per_s * t
        assert sum(len_bytes for _, len_bytes in passed[i:j]) <= bytes_per_s * t


def test_rates_are_exact_in_the_long_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes of commands, 6 ms of the rate each, on a loop that is up to 10 ms late: nothing of the rate is lost."""
    now = start = 1000.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    limiter = Limiter(bytes_per_s=1e6)
    late = random.Random(1)
    moved = 0
    while now < start + 600:
        while limiter.take_nowait(6000):
            moved += 6000
        now = limiter._due + late.uniform(0.001, 0.01)
    assert moved == pytest.approx(600e6, rel=1e-3)


@pytest.mark.anyio
@pytest.mark.parametrize("before", ["limiter", "queue"])
@pytest.mark.parametrize("how", ["cancel", "close", "throw"])
async def test_who_leaves_the_line_leaves_everything(how: str, before: str) -> None:
    """A task that leaves while it waits, for the limiter or behind it for the queue, has submitted nothing and takes nothing.

    Behind the limiter it had a place and was charged: both go to the next.
    """
    slow = {"commands_per_s": NEVER, "bytes_per_s": NEVER} if before == "queue" else {}
    limiter = Limiter(depth=1, **slow)
    async with aionvme.open("emu:nvm", depth=1) as ns, anyio.create_task_group() as tasks:
        tenant = ns.limited(limiter)
        with held(ns):
            tasks.start_soon(ns.read if before == "queue" else tenant.read, 0, 1)
            await until(lambda: ns._io.submitted)
            if how == "cancel":
                with anyio.move_on_after(0.001) as scope:
                    await tenant.read(1, 1)
                assert scope.cancelled_caught
            else:
                waiting: Any = tenant.read(1, 1)
                waiting.send(None)
                leave_by_force(waiting, how)
            assert ns._io.submitted == 1
        with anyio.fail_after(5):
            await tenant.read(2, 1)
        assert ns._io.submitted == 2
    assert_idle(limiter, 1)


@pytest.mark.anyio
async def test_what_is_given_back_shortens_the_wait() -> None:
    """A task that waits for a large command to be paid goes when that is taken back, not when it would have been paid."""
    limiter = Limiter(bytes_per_s=1000)
    async with aionvme.open("emu:nvm") as ns, anyio.create_task_group() as tasks:
        assert limiter.take_nowait(100_000)
        tasks.start_soon(ns.limited(limiter).read, 0, 1)
        await until(lambda: limiter._line)
        with anyio.fail_after(10):
            limiter.undo(99_900)
            assert not ns._io.submitted
            await until(lambda: ns._io.submitted)
    assert_idle(limiter)


@pytest.mark.anyio
async def test_a_command_in_flight_keeps_its_place_when_its_task_is_cancelled() -> None:
    """The place comes back with the completion, not with the cancellation."""
    limiter = Limiter(depth=1)
    async with aionvme.open("emu:nvm") as ns:
        tenant = ns.limited(limiter)
        async with anyio.create_task_group() as tasks:
            with held(ns):
                tasks.start_soon(tenant.read, 0, 1)
                tasks.start_soon(tenant.read, 1, 1)
                await until(lambda: limiter._line)
                tasks.cancel_scope.cancel()
                for _ in range(5):
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                assert (ns._io.in_flight, limiter._free) == (1, 0)
        assert ns._io.submitted == 1
        assert_idle(limiter, 1)


@pytest.mark.anyio
async def test_commands_that_fail_give_their_places_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After error statuses, a split read that stops in the middle, and calls that are refused, the limiter is as before."""
    limiter = Limiter(depth=2)
    async with aionvme.open("emu:nvm?mdts=16KiB") as ns:
        tenant = ns.limited(limiter)
        device = ns._io.queue._device  # type: ignore[attr-defined]
        execute = device.execute

        def fail_beyond(command: aionvme.Command, data: memoryview, *, admin: bool) -> aionvme.Completion:
            if command.slba >= 128:
                return aionvme.Completion(aionvme.Status(0x4281), 0)
            completion: aionvme.Completion = execute(command, data, admin=admin)
            return completion

        monkeypatch.setattr(device, "execute", fail_beyond)
        for _ in range(5):
            with pytest.raises(aionvme.UnrecoveredReadError):
                await tenant.read(0, 1024)
            with pytest.raises(aionvme.UsageError):
                await tenant.read(0, 0)
            assert (await tenant.submit(aionvme.Command(opcode=0x90))).status
            assert_idle(limiter, 2)
        assert ns._io.submitted < 5 * 10


@pytest.mark.anyio
async def test_admin_commands_are_not_limited() -> None:
    """They pass where an I/O command would wait."""
    async with aionvme.open("emu:nvm") as ns:
        tenant = ns.limited(Limiter(commands_per_s=NEVER))
        await tenant.read(0, 1)
        with anyio.fail_after(5):
            await tenant.submit_admin(aionvme.Command(opcode=0x06, cdw10=1), into=bytearray(4096))


@pytest.mark.anyio
async def test_one_limiter_for_two_namespaces() -> None:
    """Their commands count together; when one namespace closes, who waits for it gets ClosedError and the other goes on."""
    limiter = Limiter(depth=1)
    closed: list[str] = []

    async def read(ns: aionvme.Namespace, lba: int) -> None:
        try:
            await ns.read(lba, 1)
        except aionvme.ClosedError as error:
            closed.append(str(error))

    async with aionvme.open("emu:nvm") as one, anyio.create_task_group() as tasks:
        with held(one):
            async with aionvme.open("emu:nvm") as other:
                tasks.start_soon(read, one.limited(limiter), 0)
                await until(lambda: one._io.in_flight)
                for i in range(5):
                    tasks.start_soon(read, other.limited(limiter), i)
                tasks.start_soon(read, one.limited(limiter), 1)
                await until(lambda: len(limiter._line) == 6)
                assert (one._io.in_flight, other._io.in_flight) == (1, 0)
            await until(lambda: len(closed) == 5)
            assert one._io.in_flight == 1
            assert other._io.submitted == 0
        await until(lambda: one._io.submitted == 2)
    assert all("open it again" in message for message in closed)
    assert_idle(limiter, 1)


@pytest.mark.anyio
async def test_closing_while_tasks_wait_for_a_rate() -> None:
    """They end with ClosedError at once, a split read when its parts in flight have completed; the limiter stays usable."""
    limiter = Limiter(bytes_per_s=16384 / 60)
    ended: list[type] = []

    async def read(ns: aionvme.Namespace, nlb: int) -> None:
        with pytest.raises(aionvme.ClosedError):
            await ns.read(0, nlb)
        assert nlb == 1 or not ns._io.in_flight
        ended.append(aionvme.ClosedError)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, aionvme.open("emu:nvm?mdts=16KiB&latency=10ms") as ns:
            tenant = ns.limited(limiter)
            tasks.start_soon(read, tenant, 1024)
            await until(lambda: ns._io.submitted)
            tasks.start_soon(read, tenant, 1)
            await until(lambda: len(limiter._line) == 2)
        assert len(ended) == 2
        assert_idle(limiter)
        with pytest.raises(aionvme.ClosedError):
            ns.limited(limiter)
        async with aionvme.open("emu:nvm") as ns:
            tenant = ns.limited(limiter)
            with anyio.move_on_after(0.01) as scope:
                await tenant.read(0, 1)
            assert scope.cancelled_caught  # still paying for the first part
    assert_idle(limiter)


@pytest.mark.anyio
@pytest.mark.parametrize("limits", [{"depth": 1}, {"commands_per_s": NEVER}], ids=["depth", "rate"])
async def test_a_queue_that_breaks_ends_the_waits_for_it(limits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a command in flight gets OSError, who waits for the limiter ClosedError; another namespace has all places."""
    limiter = Limiter(**limits)
    ended: list[type] = []

    async def read(ns: aionvme.Namespace) -> None:
        try:
            await ns.read(0, 1)
        except (OSError, aionvme.ClosedError) as error:
            ended.append(type(error))

    def broken(budget: int) -> bytes:
        raise OSError(19, "gone")

    async with aionvme.open("emu:nvm") as other:
        async with aionvme.open("emu:nvm") as ns:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    with held(ns):
                        for _ in range(4):
                            tasks.start_soon(read, ns.limited(limiter))
                        await until(lambda: len(limiter._line) == 3)
                    monkeypatch.setattr(ns._io.queue, "tick", broken)
        assert sorted(ended, key=str) == [OSError] + [aionvme.ClosedError] * 3
        assert_idle(limiter, limits.get("depth", math.inf))
        if "depth" in limits:
            await other.limited(limiter).read(0, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_all_places_come_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of two namespaces, limited and not, that read, split, fail, are cancelled, and are closed by force."""
    chance = random.Random(seed)
    limiter = Limiter(depth=4, commands_per_s=chance.choice([2e3, 1e6]), bytes_per_s=chance.choice([20e6, 1e9]))
    spec = f"emu:zns?mdts=16KiB&latency=0us-2ms&seed={seed}"
    seen: list[int] = []
    async with aionvme.open(spec, depth=6) as one, aionvme.open(spec, depth=2) as two:
        tenants = [one.limited(limiter), two.limited(limiter), one]
        for ns in (one, two):

            def sample(budget: int, tick: Any = ns._io.queue.tick) -> Any:
                seen.append(group_in_flight(one, two))
                return tick(budget)

            monkeypatch.setattr(ns._io.queue, "tick", sample)

        async def work() -> None:
            for _ in range(6):
                ns = chance.choice(tenants)
                with anyio.move_on_after(chance.choice([0, 0.0005, 0.003, 10])):
                    match chance.randrange(4):
                        case 0:
                            await ns.read(0, chance.randint(1, 16))
                        case 1:
                            await ns.submit(aionvme.Command(opcode=0x90))
                        case 2:
                            await ns.zone_append(0, bytes(4096))
                        case _ if ns._limiter and limiter._line:
                            call = ns.read(0, 1)
                            call.send(None)
                            call.close()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(40):
                    tasks.start_soon(work)
            await until(lambda: not one._io.in_flight and not two._io.in_flight)
        assert 2 <= max(seen) <= 4
        assert_idle(limiter, 4)
        assert (one._io.flights.free, two._io.flights.free) == (6, 2)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        pytest.param({}, "without a limit", id="none"),
        *(
            pytest.param({"depth": wrong}, "depth=.*: a whole number of commands, at least 1", id=f"depth {wrong}")
            for wrong in (0, -1, 2.0, True, "8", np.float64(2), math.nan, math.inf)
        ),
        *(
            pytest.param({name: wrong}, f"{name}=.*: a rate is a number from", id=f"{name} {wrong}")
            for name in ("commands_per_s", "bytes_per_s")
            for wrong in (0, -1, 0.0, math.nan, math.inf, True, np.True_, "5", 1e-300, 10**400, 1j)
        ),
    ],
)
def test_limits_that_make_no_sense(limits: Any, message: str) -> None:
    """Each is refused by name."""
    with pytest.raises(aionvme.UsageError, match=message):
        Limiter(**limits)


def test_numpy_numbers_are_numbers() -> None:
    """Limits may come from arrays, and show in the representation."""
    limits: dict[str, Any] = {"depth": np.uint8(4), "commands_per_s": np.float32(10), "bytes_per_s": np.int64(10)}
    assert repr(Limiter(depth=8, bytes_per_s=1e6)) == "Limiter(depth=8, bytes_per_s=1000000.0)"
    assert Limiter(**limits).take_nowait(0)


@pytest.mark.anyio
async def test_a_namespace_is_limited_once() -> None:
    """Limiting a limited namespace, and by what is no limiter, is refused with what to do; what was there stays as it is."""
    async with aionvme.open("emu:nvm") as ns:
        tenant = ns.limited(Limiter(depth=8))
        assert repr(tenant).endswith("emulated queue, Limiter(depth=8)>")
        with pytest.raises(aionvme.UsageError, match="limit the namespace that this one was made from"):
            tenant.limited(Limiter(depth=1))
        wrong: Any = 8
        with pytest.raises(aionvme.UsageError, match="8 is not a Limiter"):
            ns.limited(wrong)
        await tenant.read(0, 1)


def test_another_event_loop_is_refused() -> None:
    """A limiter belongs to the loop that used it first, on asyncio and on trio."""
    limiter = Limiter(depth=1)

    async def main() -> None:
        async with aionvme.open("emu:nvm") as ns:
            await ns.limited(limiter).read(0, 1)

    asyncio.run(main())
    with pytest.raises(aionvme.WrongLoopError, match="make one for each"):
        asyncio.run(main())
    with pytest.raises(aionvme.WrongLoopError, match="make one for each"):
        trio.run(main)


def test_who_is_cancelled_when_its_turn_has_come_passes_it_on() -> None:
    """asyncio can cancel a task between its turn and its next step: place and charge go to the next in line."""

    async def main() -> None:
        limiter = Limiter(depth=1, commands_per_s=NEVER)
        async with aionvme.open("emu:nvm") as ns:
            tenant = ns.limited(limiter)
            assert limiter.take_nowait(0)
            first, second = (asyncio.create_task(tenant.read(i, 1)) for i in range(2))
            await asyncio.sleep(0)
            assert len(limiter._line) == 2
            limiter.undo(0)
            assert len(limiter._line) == 1
            first.cancel()
            await asyncio.wait_for(second, 5)
            assert first.cancelled()
            assert ns._io.submitted == 1
        assert_idle(limiter, 1)

    asyncio.run(main())


def test_a_system_task_of_trio_may_outlive_main() -> None:
    """trio cancels its system tasks when main ends; one that is shielded still gets its turn, and no timer keeps the run."""
    limiter = Limiter(commands_per_s=4)
    left: list[aionvme.Namespace] = []
    started = time.monotonic()

    async def read(ns: aionvme.Namespace, shield: bool, outcomes: list[int]) -> None:
        with trio.CancelScope(shield=shield):
            outcomes.append((await ns.read(0, 1)).size)

    async def main() -> list[int]:
        outcomes: list[int] = []
        ns = await aionvme.open("emu:nvm?lba=4096").__aenter__()
        left.append(ns)
        for each, shield in ((limiter, True), (Limiter(commands_per_s=NEVER), False)):
            tenant = ns.limited(each)
            await tenant.read(0, 1)
            trio.lowlevel.spawn_system_task(read, tenant, shield, outcomes)
            await until(lambda each=each: each._line or outcomes)  # type: ignore[misc]
        return outcomes

    assert trio.run(main) == [4096]
    assert time.monotonic() - started < 5
    assert_idle(limiter)
    with pytest.warns(ResourceWarning, match="never closed"):
        for driver in (left[0]._io, left[0]._admin):
            driver.__del__()


@pytest.mark.trio
async def test_a_forked_child_does_not_wait() -> None:
    """A child that goes on in the inherited run ends its waits for a limiter with ClosedError; the parent's go on."""
    ended: list[type] = []
    limiter = Limiter(depth=1)

    async def read(ns: aionvme.Namespace) -> None:
        try:
            await ns.read(0, 1)
            ended.append(int)
        except aionvme.ClosedError:
            ended.append(aionvme.ClosedError)

    async with aionvme.open("emu:nvm?latency=200ms") as ns, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(read, ns.limited(limiter))
        await until(lambda: limiter._line)
        child = os.fork()
        if child == 0:
            try:
                await trio.sleep(0.01)
            finally:
                os._exit(42 if ended == [aionvme.ClosedError] * 2 and not limiter._line else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert ended == [int] * 2
