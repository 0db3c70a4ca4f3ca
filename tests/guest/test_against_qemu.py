"""The emulated device against QEMU's controller: the same commands, valid and invalid, on a namespace of each.

Statuses with their Do Not Retry, results of what succeeded, data read, and zone reports must be equal. Where they are not, the
difference is listed in differences.py, with the clause that decides it; all others end the test. The emulated device follows
the specifications, and where those leave a choice it does what QEMU does.

Hypothesis makes the commands. ``AIONVME_SEED=100`` has it make others than those of every day; ``AIONVME_SEQUENCES=50`` as many
sequences of them.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import aionvme
from aionvme.nvme.opcodes import ZoneSendAction
from tests.conftest import node

from .differences import DIFFERENCES
from .outcome import DisagreementError
from .steps import NUMBER_BYTES, step
from .twins import Twins

pytestmark = pytest.mark.feature("the emulated device does what QEMU's controller does")

SEED = int(os.environ.get("AIONVME_SEED", "0"))
SEQUENCES = int(os.environ.get("AIONVME_SEQUENCES", "0"))
LENGTH = 250
"""Commands in a long sequence: hypothesis makes no more than 8 KiB for one example."""
LONG = {1: 12, 3: 12, 2: 30, 8: 34}
"""How many long sequences each namespace gets. The first is the plainest one, the same command again and again."""
AT_LEAST = 20_000
"""Commands that hypothesis chose, in the long sequences together, not counting the plainest ones."""

_SELECT_ALL = 0x100
_EXTEND, _FLUSH_AREA = ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE

COMMON = {
    ("READ", 0): {0, 0x4080},
    ("WRITE", 0): {0, 0x4080},
    ("WRITE_ZEROES", 0): {0, 0x4080},
    ("COMPARE", 0): {0, 0x4080, 0x4285},
    ("VERIFY", 0): {0, 0x4002, 0x4080},
    ("COPY", 0): {0, 0x4002, 0x4080, 0x4183},
    ("DATASET_MANAGEMENT", 0): {0, 0x4080},
    ("FLUSH", 0): {0},
    ("WRITE_UNCORRECTABLE", 0): {0},
    ("unknown", 0): {0x4001},
}
_CLOSE, _FINISH, _OPEN, _RESET, _OFFLINE = 1, 2, 3, 4, 5
ZONED = {
    **COMMON,
    ("READ", 0): {0, 0x4080, 0x41B8},
    ("WRITE", 0): {0, 0x4080, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("WRITE_ZEROES", 0): {0, 0x4080, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("ZONE_APPEND", 0): {0, 0x4002, 0x4080, 0x41B8, 0x41B9, 0x41BD, 0x41BE},
    ("COMPARE", 0): {0, 0x4080, 0x41B8, 0x4285},
    ("VERIFY", 0): {0, 0x4002, 0x41B8},
    ("COPY", 0): {0, 0x4002, 0x4080, 0x4183, 0x41B8, 0x41B9, 0x41BC, 0x41BD},
    ("ZONE_MANAGEMENT_SEND", _CLOSE): {0, 0x4002, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _FINISH): {0},
    ("ZONE_MANAGEMENT_SEND", _OPEN): {0, 0x4002, 0x41BD, 0x41BE, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _RESET): {0, 0x4002},
    ("ZONE_MANAGEMENT_SEND", _OFFLINE): {0x41BF},
    **{("ZONE_MANAGEMENT_SEND", _SELECT_ALL | action): {0} for action in (_CLOSE, _FINISH, _OPEN, _RESET, _OFFLINE)},
    ("ZONE_MANAGEMENT_SEND", 0xFF): {0x4002},
    ("ZONE_MANAGEMENT_RECEIVE", 0): {0, 0x4002, 0x4080},
    ("ZONE_MANAGEMENT_RECEIVE", 0xFF): {0x4002},
}
WITHOUT_AREAS = {
    **ZONED,
    ("ZONE_MANAGEMENT_SEND", _EXTEND): {0x4002},
    ("ZONE_MANAGEMENT_SEND", _FLUSH_AREA): {0x41B6},
    ("ZONE_MANAGEMENT_RECEIVE", 1): {0x4002},
}
WITH_AREAS = {
    **ZONED,
    ("WRITE_ZEROES", 0): ZONED["WRITE_ZEROES", 0] | {0x41BE},
    ("ZONE_APPEND", 0): ZONED["ZONE_APPEND", 0] | {0x41B6},
    ("ZONE_MANAGEMENT_SEND", _OPEN): ZONED["ZONE_MANAGEMENT_SEND", _OPEN] | {0x41B6, 0x41B7},
    ("ZONE_MANAGEMENT_SEND", _SELECT_ALL | _OPEN): {0, 0x41BE},
    ("ZONE_MANAGEMENT_SEND", _EXTEND): {0, 0x41BD, 0x41BF},
    ("ZONE_MANAGEMENT_SEND", _FLUSH_AREA): {0, 0x4002, 0x41B8},
    ("ZONE_MANAGEMENT_RECEIVE", 1): {0, 0x4002},
}
"""What must have been among the commands, by opcode and action (Select All is 100h), and how the emulated device must have ended
it: a generator that has become weak shows here."""


class Run:
    """What has been run so far: on which namespaces, on which version of QEMU, how many commands, and what was met."""

    def __init__(self) -> None:
        """Nothing."""
        self.nsids: set[int] = set()
        self.qemu = (0, 0)
        self.commands = 0
        self.met: Counter[str] = Counter()


@pytest.fixture(scope="module")
def run() -> Run:
    """Of the module's tests together."""
    return Run()


@contextmanager
def twins_of(nsid: int) -> Iterator[tuple[Twins, asyncio.Runner]]:
    """A namespace of the guest's with its twin, and the loop on which it was opened."""

    async def opened() -> Twins:
        namespace = await ns.__aenter__()
        return Twins(namespace, await namespace.report_zones() if namespace.zoned else None, DIFFERENCES)

    ns = aionvme.open(node(nsid), queue="interrupt")
    with asyncio.Runner() as runner:
        twins = runner.run(opened())
        try:
            yield twins, runner
        finally:
            twins.close()
            runner.run(ns.__aexit__(None, None, None))


def generated(nsid: int, examples: int, *phases: Phase) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """As many examples, the same ones each time, of a test that is given some."""
    chosen = settings(
        max_examples=examples,
        phases=phases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(f"{SEED} {nsid}")(chosen(test))


async def play(twins: Twins, sequence: list[int]) -> None:
    """A sequence from the same state on both, and then all zones, and some of the data."""
    await twins.start()
    for place, number in enumerate(sequence, start=1):
        await twins.run(step(twins, number))
        if place % 50 == 0:
            await twins.check_zones()
    await twins.check_zones()
    await twins.check_data(number % max(1, twins.spec.zones) for number in sequence[:3])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("nsid", "wanted"),
    [(1, COMMON), (3, COMMON), (2, WITHOUT_AREAS), (8, WITH_AREAS)],
    ids=["512", "4096", "zones", "random-write-areas"],
)
def test_sequences(nsid: int, wanted: dict[tuple[str, int], set[int]], run: Run) -> None:
    """Twenty thousand commands in long sequences, which the four share; each goes on after a disagreement with the next."""
    sequences = 0
    chosen = 0
    unexplained = []
    with twins_of(nsid) as (twins, runner):

        @generated(nsid, SEQUENCES or LONG[nsid], Phase.generate)
        @given(st.binary(min_size=LENGTH * NUMBER_BYTES, max_size=LENGTH * NUMBER_BYTES))
        def all_of_them(drawn: bytes) -> None:
            nonlocal sequences, chosen
            sequences += 1
            chosen += LENGTH if any(drawn) else 0
            parts = range(0, len(drawn), NUMBER_BYTES)
            numbers = [int.from_bytes(drawn[at : at + NUMBER_BYTES], "little") for at in parts]
            try:
                runner.run(play(twins, numbers))
            except DisagreementError as disagreement:
                unexplained.append(f"sequence {sequences}:\n{disagreement}")
                print(unexplained[-1])

        all_of_them()
    print(
        f"\n{chosen} commands chosen, {sum(twins.counts.values())} carried out on namespace {nsid}, QEMU {twins.qemu}"
    )
    for what, count in twins.met.most_common():
        print(f"{count:6} {what}")
    assert not unexplained, "\n\n".join(unexplained)
    assert sequences == (SEQUENCES or LONG[nsid])
    run.nsids.add(nsid)
    run.qemu = twins.qemu
    run.commands += chosen
    run.met += twins.met
    if not SEQUENCES:
        seen = {(name, action, status) for name, action, status in twins.counts}
        missing = {(*key, status) for key, statuses in wanted.items() for status in statuses} - seen
        assert not missing, f"the sequences are not what they were: no {missing}"


def test_all_sequences_together(run: Run) -> None:
    """They were enough commands, and no difference is listed that there is none of."""
    if run.nsids != set(LONG) or SEQUENCES:
        pytest.skip("not all of the sequences were run")
    assert run.commands >= AT_LEAST
    if SEED:
        return  # others may not meet what is rare
    stale = {each.what for each in DIFFERENCES if each.is_in(run.qemu)} - set(run.met)
    assert not stale, f"listed, and not met on QEMU {run.qemu}: {stale}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("nsid", "examples"), [(1, 12), (2, 25), (8, 25)])
def test_short_sequences(nsid: int, examples: int) -> None:
    """A few commands at a time, of which hypothesis finds the fewest that show a disagreement."""
    chosen = 0
    with twins_of(nsid) as (twins, runner):

        @generated(nsid, examples * max(1, SEQUENCES), Phase.generate, Phase.shrink)
        @given(st.lists(st.binary(min_size=NUMBER_BYTES, max_size=NUMBER_BYTES), min_size=1, max_size=40))
        def same(sequence: list[bytes]) -> None:
            nonlocal chosen
            chosen += len(sequence)
            runner.run(play(twins, [int.from_bytes(number, "little") for number in sequence]))

        same()
    assert chosen >= (1 if SEED else 5) * examples
