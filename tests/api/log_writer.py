"""``python -m tests.api.log_writer TARGET QUEUE ROUNDS SEED``: a writer to a log that is killed again and again.

Each round is a process of its own: it recovers the log, compares it with what the rounds before had acknowledged, goes on
appending, discarding and reclaiming, and is killed with SIGKILL at a random time. What it says of its doings goes into a pipe,
which survives it. The last round only compares. Prints how many rounds there were, how many records were acknowledged, how many
zones reclaimed, and how many rounds ended in the middle of a reclaim.
"""

import asyncio
import os
import random
import signal
import sys
import time
import zlib
from typing import Any

import aionvme

ZONES = 6
WIDTH = 2
KEPT = 50
"""The writer discards all records but so many of the newest."""

TASKS = 6


class Ledger:
    """What the rounds have said: the checksum of each record whose append returned, and the newest that may be gone."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, int] = {}
        self.discarded_below = 0
        self.reclaimed = 0
        self.cut_short = 0

    def take(self, said: bytes) -> None:
        """Take in what a round said; the last line may be a part of one."""
        reclaiming = False
        for line in said.decode().split("\n")[:-1]:
            word, *numbers = line.split()
            if word == "ack":
                self.acknowledged[int(numbers[0])] = int(numbers[1])
            elif word == "discard":
                self.discarded_below = max(self.discarded_below, int(numbers[0]))
            else:
                reclaiming = word == "reclaim"
                self.reclaimed += word == "reclaimed"
        self.cut_short += reclaiming

    def must_be_there(self) -> list[int]:
        """The records that no crash may lose."""
        return [sequence for sequence in self.acknowledged if sequence >= self.discarded_below]


def content(sequence: int, dice: random.Random) -> bytes:
    """A record like no other, of a block or less, some blocks, or more than one append takes."""
    length = dice.choice((10, 4000, 5000, 20_000, 140_000))
    return (b"%d " % sequence).ljust(16) + dice.randbytes(length)


async def check(log: aionvme.ZoneLog, ledger: Ledger, dice: random.Random, *, all_of_them: bool) -> None:
    """Every acknowledged record is in the log, and those looked at hold what was appended."""
    expected = ledger.must_be_there()
    missing = set(expected) - {record.sequence for record in log}
    assert not missing, f"lost: {sorted(missing)[:10]}"
    looked_at = expected if all_of_them else dice.sample(expected, min(5, len(expected))) + expected[-10:]
    for sequence in looked_at:
        assert zlib.crc32(await log.read(sequence)) == ledger.acknowledged[sequence], f"record {sequence} differs"


async def write(log: aionvme.ZoneLog, say: Any, dice: random.Random) -> None:
    """Append for ever, from several tasks; discard and reclaim when it gets tight."""
    discarded = -1

    async def one_task() -> None:
        nonlocal discarded
        for turn in range(sys.maxsize):
            data = content(turn, dice)
            while True:
                try:
                    record = await log.append(data)
                    break
                except aionvme.LogFullError:
                    await reclaim()
            say(f"ack {record.sequence} {zlib.crc32(data)}")
            if log.free_zones <= 2:
                await reclaim()

    async def reclaim() -> None:
        nonlocal discarded
        records = list(log)
        if len(records) > KEPT and records[-KEPT].sequence > discarded:
            discarded = records[-KEPT].sequence
            say(f"discard {discarded}")
            for record in records[:-KEPT]:
                log.discard(record)
        say("reclaim")
        usage = await log.reclaim()
        say("reclaimed" if usage else "nothing to reclaim")

    await asyncio.gather(*(one_task() for _ in range(TASKS)))


async def one_round(target: str, queue: Any, ledger: Ledger, seed: int, pipe: int, *, last: bool) -> None:
    """What the process that is killed does."""
    dice = random.Random(seed)
    async with aionvme.open(target, queue=queue) as ns:
        first = not ledger.acknowledged
        how = aionvme.ZoneLog.create if first else aionvme.ZoneLog.recover
        log = await how(ns, ns.zones[:ZONES], width=WIDTH, spare=1)
        await check(log, ledger, dice, all_of_them=last)
        if not last:
            await write(log, lambda line: os.write(pipe, f"{line}\n".encode()), dice)


def run(target: str, queue: str, rounds: int, seed: int) -> None:
    """All rounds, each in a child of this process."""
    ledger = Ledger()
    dice = random.Random(seed)
    for n in range(rounds + 1):
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            os.close(ours)
            asyncio.run(one_round(target, queue, ledger, seed + n, theirs, last=n == rounds))
            os._exit(0)
        os.close(theirs)
        said = b""
        deadline = 0.0
        while n < rounds:
            said += os.read(ours, 1 << 16)
            if not said:
                break  # it failed before it wrote anything
            deadline = deadline or time.monotonic() + dice.random() * 0.05
            if time.monotonic() >= deadline:
                os.kill(child, signal.SIGKILL)
                break
        while more := os.read(ours, 1 << 16):
            said += more
        os.close(ours)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) if n < rounds else status == 0, f"round {n}: exit status {status}"
        ledger.take(said)
    print(rounds, len(ledger.acknowledged), ledger.reclaimed, ledger.cut_short)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
