"""What is to be measured, as the command line says it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from aionvme.cli.arguments import add_force, seconds, size_in_bytes
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.queues.attach import DEPTH_MAX, QueueChoice

T = TypeVar("T")


@dataclass(frozen=True)
class Pattern:
    """A kind of command, and whether the addresses of those that follow each other do so too."""

    name: str
    opcode: NvmOpcode
    random: bool = False

    @property
    def overwrites(self) -> bool:
        """Whether it destroys data."""
        return self.opcode != NvmOpcode.READ


PATTERNS = {
    pattern.name: pattern
    for pattern in (
        Pattern("randread", NvmOpcode.READ, random=True),
        Pattern("read", NvmOpcode.READ),
        Pattern("randwrite", NvmOpcode.WRITE, random=True),
        Pattern("write", NvmOpcode.WRITE),
        Pattern("append", NvmOpcode.ZONE_APPEND),
    )
}

DEFAULT_SIZE_BYTES = 4096
"""Unless a logical block is larger."""


@dataclass(frozen=True)
class Plan:
    """A sweep: every pattern with every size at every depth, ``seconds`` each.

    ``sizes`` (bytes a command) is empty for the default, ``region`` (bytes from the start of the namespace) None for all of it.
    ``await_each`` has one task for each place in the queue await one command after the other, where otherwise two arrays of
    commands are in flight.
    """

    target: str
    patterns: tuple[Pattern, ...]
    sizes: tuple[int, ...]
    depths: tuple[int, ...]
    seconds: float
    queue: QueueChoice
    region: int | None
    seed: int
    await_each: bool
    overwrite: bool
    force: bool

    @property
    def readonly(self) -> bool:
        """Whether nothing of it destroys data."""
        return not any(pattern.overwrites for pattern in self.patterns)


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that parsed arguments describe."""
    return Plan(
        target=arguments.target,
        patterns=tuple(PATTERNS[name] for name in arguments.pattern),
        sizes=tuple(arguments.size),
        depths=tuple(arguments.depth),
        seconds=arguments.seconds,
        queue=arguments.queue,
        region=arguments.region,
        seed=arguments.seed,
        await_each=arguments.await_each,
        overwrite=arguments.overwrite,
        force=arguments.force,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``aionvme bench``."""
    parser.add_argument(
        "--pattern",
        type=_list_of(_pattern),
        default=["randread"],
        metavar="NAME,...",
        help=f"what to do, of {', '.join(PATTERNS)}; default randread",
    )
    parser.add_argument(
        "--size",
        type=_list_of(size_in_bytes),
        default=[],
        metavar="SIZE,...",
        help="data of a command: bytes, or a number with KiB or MiB; default 4KiB, or a logical block where that is larger",
    )
    parser.add_argument(
        "--depth",
        type=_list_of(_depth),
        default=[1, 2, 4, 8, 16, 32, 64, 128],
        metavar="N,...",
        help="commands kept in flight; default 1,2,4,8,16,32,64,128",
    )
    parser.add_argument("--seconds", type=seconds, default=1.0, metavar="S", help="time for each point; default 1")
    parser.add_argument(
        "--queue", choices=get_args(QueueChoice), default="auto", help="the path that commands take; default auto"
    )
    parser.add_argument(
        "--region",
        type=size_in_bytes,
        metavar="SIZE",
        help="use only so much from the start of the namespace; on a zoned one, whole zones",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="decides the random addresses and data; default 0"
    )
    parser.add_argument(
        "--await-each",
        action="store_true",
        help="await every command by itself, from as many tasks as the queue is deep, instead of arrays of commands",
    )
    parser.add_argument("--overwrite", action="store_true", help="allow patterns that destroy what the region holds")
    add_force(parser)
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the JSON document, for `aionvme compare`")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="draw IOPS and latency over depth (needs matplotlib)"
    )


def _list_of(one: Callable[[str], T]) -> Callable[[str], list[T]]:
    def parse(text: str) -> list[T]:
        return list(dict.fromkeys(one(part) for part in text.split(",")))

    return parse


def _pattern(text: str) -> str:
    if text not in PATTERNS:
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(PATTERNS)}")
    return text


def _depth(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= DEPTH_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: a queue holds 1 to {DEPTH_MAX} commands")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: it takes a whole number, such as 1")
    return int(text)
