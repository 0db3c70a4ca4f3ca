"""The driver over real rings: what reaches the caller, places in the queue, cancellation, and a ring that breaks."""

import errno
import random
from collections.abc import Callable
from typing import Literal

import anyio
import pytest

import aionvme
from aionvme.driver.driver import Driver
from aionvme.driver.request import Submission
from aionvme.errors import ClosedError, CommandAbortedError, DeviceGoneError
from tests.native.conftest import OpenDriver
from tests.native.rings import HeldQueue, Kept, NopQueue, NullQueue, break_ring, need_injected_results, outcome, until

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["interrupt", "deferred", "polled", "interrupt-sqpoll", "polled-sqpoll"])
def nops(request: pytest.FixtureRequest) -> Callable[[int], NopQueue]:
    """A queue of NOPs that complete as they are told: in the submission, by deferred work, or on a polled ring; or by a thread
    of the kernel's."""
    need_injected_results()

    def make(depth: int) -> NopQueue:
        polled, sqpoll = request.param.startswith("polled"), request.param.endswith("sqpoll")
        queue = NopQueue("polled" if polled else "interrupt", depth, sqpoll)
        queue.deferred = request.param == "deferred"
        return queue

    return make


async def test_completions(nops: Callable[[int], NopQueue], open_driver: OpenDriver) -> None:
    """Status and result arrive as the kernel gave them; a status is not an exception here."""
    driver = open_driver(nops(8))
    for res, result in ((0, 0), (0, 0xFEDC_BA98_7654_3210), (0x4080, 0), (0x0080, 7), (0x7FFF, (1 << 64) - 1)):
        (completion,) = await driver.run([Submission(outcome(res, result))])
        assert (int(completion.status), completion.result) == (res, result)
        assert completion.status.dnr == bool(res & 0x4000)
    assert await driver.run([]) == []


@pytest.mark.parametrize(
    ("number", "kind", "cause"),
    [
        (errno.EINTR, CommandAbortedError, "the controller was reset, or the command timed out"),
        (errno.EIO, CommandAbortedError, "without having sent it"),
        (errno.EACCES, PermissionError, "CAP_SYS_ADMIN"),
        (errno.EPERM, PermissionError, "a security module"),
        (errno.ENODEV, DeviceGoneError, "the device is gone"),
        (errno.ENXIO, DeviceGoneError, "the device is gone"),
        (errno.EINVAL, OSError, "a wrong nsid"),
        (errno.EOPNOTSUPP, OSError, "no passthrough commands through io_uring"),
        (errno.EXDEV, OSError, "a command to the device"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
async def test_errors_of_the_system(number: int, kind: type[OSError], cause: str, open_driver: OpenDriver) -> None:
    """A negative res becomes the OSError subclass of its errno, which says what failed and, where known, why."""
    need_injected_results()
    driver = open_driver(NopQueue())
    with pytest.raises(kind, match=cause) as caught:
        await driver.run([Submission(outcome(-number))])
    assert caught.value.errno == number
    assert "the device" in str(caught.value)


async def test_a_command_given_up_because_its_device_goes() -> None:
    """The same errno is a DeviceGoneError where the device is no longer there, which is looked up only then."""
    need_injected_results()
    asked = 0

    def look() -> Literal["present", "gone"]:
        nonlocal asked
        asked += 1
        return "gone" if asked == 2 else "present"

    driver = Driver(NopQueue(), "the device", look)
    for kind in (CommandAbortedError, DeviceGoneError):
        with pytest.raises(OSError, match="a command to the device") as caught:
            await driver.run([Submission(outcome(-errno.EINTR))])
        assert (type(caught.value), caught.value.errno) == (kind, errno.EINTR)
        assert not isinstance(caught.value, InterruptedError)
    with pytest.raises(PermissionError):
        await driver.run([Submission(outcome(-errno.EPERM))])
    assert asked == 2
    await driver.aclose()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EFAULT], ids=errno.errorcode.get)
async def test_a_command_that_came_during_a_reset(number: int) -> None:
    """An errno that speaks of a mistake at other times is a CommandAbortedError while the only path to the device is away."""
    need_injected_results()
    seen: Literal["present", "away"] = "present"
    driver = Driver(NopQueue(), "the device", lambda: seen)

    async def error() -> OSError:
        with pytest.raises(OSError, match="a command to the device") as caught:
            await driver.run([Submission(outcome(-number))])
        assert caught.value.errno == number
        return caught.value

    mistake = await error()
    assert not isinstance(mistake, aionvme.AionvmeError)
    seen = "away"
    not_sent = await error()
    assert type(not_sent) is CommandAbortedError
    assert "the kernel did not send it" in str(not_sent)
    assert "the kernel did not send it" not in str(mistake)
    await driver.aclose()


async def test_dev_null(open_driver: OpenDriver) -> None:
    """Real uring_cmds make the round trip through the driver, one by one and many together (Linux 6.1)."""
    driver = open_driver(NullQueue(depth=16))
    for n in (1, 16, 500):
        assert await driver.run([Submission(bytes(72))] * n) == [(0, 0)] * n


async def test_more_than_the_depth_wait_their_turn(nops: Callable[[int], NopQueue], open_driver: OpenDriver) -> None:
    """Of a thousand commands at depth 8 never more than 8 are in flight, 8 are at times, and each gets its own answer."""
    driver = open_driver(queue := nops(8))
    answers: dict[int, int] = {}

    async def one(i: int) -> None:
        (completion,) = await driver.run([Submission(outcome(0, i))])
        answers[i] = completion.result

    async with anyio.create_task_group() as tasks:
        for i in range(1000):
            tasks.start_soon(one, i)
    assert answers == {i: i for i in range(1000)}
    assert queue.most_in_flight == 8
    assert driver.in_flight == queue.in_flight == 0


async def test_several_at_once(nops: Callable[[int], NopQueue], open_driver: OpenDriver) -> None:
    """One run of many commands answers in their order, whatever the depth."""
    for depth in (1, 8, 64):
        driver = open_driver(queue := nops(depth))
        completions = await driver.run([Submission(outcome(0, 1000 + i)) for i in range(300)])
        assert [completion.result for completion in completions] == list(range(1000, 1300))
        assert queue.most_in_flight == depth


async def test_after_a_failure_no_more_are_submitted(nops: Callable[[int], NopQueue], open_driver: OpenDriver) -> None:
    """After a failed command the rest of the run is not submitted: the answer ends early and the failure is in it."""
    driver = open_driver(nops(8))
    completions = await driver.run([Submission(outcome(0x4080 if i == 20 else 0, i)) for i in range(300)])
    assert 20 < len(completions) <= 28
    assert [completion.result for completion in completions] == list(range(len(completions)))
    assert [int(completion.status) for completion in completions] == [
        0x4080 * (i == 20) for i in range(len(completions))
    ]
    with pytest.raises(CommandAbortedError):
        await driver.run([Submission(outcome(-errno.EINTR if i == 20 else 0)) for i in range(300)])
    assert driver.in_flight == 0


async def test_a_thousand_tasks_cancelled_at_random(nops: Callable[[int], NopQueue], open_driver: OpenDriver) -> None:
    """Afterwards nothing is in flight, every keep has been let go, and all of the places can be had again."""
    driver = open_driver(queue := nops(8))
    kept = Kept()
    dice = random.Random(7)
    ended = 0

    async def work(scope: anyio.CancelScope) -> None:
        nonlocal ended
        with scope:
            while True:
                await driver.run([kept.submission(outcome()) for _ in range(3)])
        ended += 1

    async with anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(1000)]
        for scope in scopes:
            tasks.start_soon(work, scope)
        dice.shuffle(scopes)
        while scopes:
            await anyio.sleep(dice.choice((0, 0, 0.0005)))
            for _ in range(dice.randint(1, 60)):
                if scopes:
                    scopes.pop().cancel()
    assert ended == 1000
    assert driver.in_flight == queue.in_flight == 0
    await until(lambda: kept.living() == 0)
    queue.most_in_flight = 0
    await driver.run([Submission(outcome())] * 100)
    assert queue.most_in_flight == 8


async def test_keeps_live_until_the_completion_and_no_longer(open_driver: OpenDriver) -> None:
    """With every task cancelled, those in flight keep theirs one by one until each completes; the others let go at once."""
    driver = open_driver(queue := HeldQueue(depth=8))
    kept = Kept()
    scopes = [anyio.CancelScope() for _ in range(50)]
    through = 0

    async def work(scope: anyio.CancelScope) -> None:
        nonlocal through
        with scope:
            await driver.run([kept.submission(bytes(72))])
        through += 1

    async with anyio.create_task_group() as tasks, queue:
        for scope in scopes:
            tasks.start_soon(work, scope)
        await until(lambda: queue.in_flight == 8)
        for scope in scopes:
            scope.cancel()
        await until(lambda: through == 42)
        await anyio.sleep(0.02)
        for left in range(8, 0, -1):
            assert (driver.in_flight, through) == (left, 50 - left)
            await until(lambda: kept.living() <= driver.in_flight)
            assert kept.living() == left
            queue.release(1)
            await until(lambda left=left: through > 50 - left)  # type: ignore[misc]
    await until(lambda: kept.living() == 0)


async def outcome_of(driver: Driver, submissions: list[Submission], outcomes: list[object]) -> None:
    """Run, and note the completions or the exception."""
    try:
        outcomes.append(await driver.run(submissions))
    except Exception as error:
        outcomes.append(error)


async def test_a_broken_ring(open_driver: OpenDriver) -> None:
    """Where the ring cannot be entered, every wait ends with that OSError, later calls are refused, and buffers stay."""
    driver = open_driver(queue := HeldQueue(depth=8))
    kept = Kept()
    outcomes: list[object] = []
    async with anyio.create_task_group() as tasks, queue:
        for n in (1, 1, 2):
            tasks.start_soon(outcome_of, driver, [kept.submission(bytes(72)) for _ in range(n)], outcomes)
        await until(lambda: queue.in_flight == 4)
        break_ring(queue)
        await outcome_of(driver, [kept.submission(bytes(72))], outcomes)
    assert [type(error) for error in outcomes] == [OSError] * 4
    assert {error.errno for error in outcomes if isinstance(error, OSError)} <= {errno.EOPNOTSUPP, errno.EBADF}
    assert "entering an io_uring" in str(outcomes[0])
    with pytest.raises(ClosedError, match="broken"):
        await driver.run([Submission(bytes(72))])
    outcomes.clear()
    assert kept.living() == 5
    await driver.aclose()
    assert kept.living() == 5


async def test_a_ring_that_breaks_in_the_middle_of_a_run(open_driver: OpenDriver) -> None:
    """A run of which some commands were in flight gets the OSError of those, not only a ClosedError for the rest."""
    driver = open_driver(queue := HeldQueue(depth=4))
    outcomes: list[object] = []
    async with anyio.create_task_group() as tasks, queue:
        tasks.start_soon(outcome_of, driver, [Submission(bytes(72))] * 10, outcomes)
        await until(lambda: queue.in_flight == 4)
        break_ring(queue)
        queue.release(1)
    assert [type(error) for error in outcomes] == [OSError]
