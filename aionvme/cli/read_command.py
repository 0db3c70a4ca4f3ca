"""``aionvme read``: blocks of a namespace to stdout, as they are."""

import argparse
import asyncio
import sys

from rich.text import Text

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_target, block_address, count
from aionvme.cli.render import Answer
from aionvme.cli.streams import write_data
from aionvme.opening import open_namespace

PIECE_BYTES = 8 << 20
"""Read at a time, and held in memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_target(parser)
    parser.add_argument(
        "--lba", type=block_address, required=True, metavar="LBA", help="the first block, 1024 or 0x400"
    )
    parser.add_argument("--blocks", type=count, required=True, metavar="N", help="how many")


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    if sys.stdout is None or sys.stdout.isatty():
        raise CommandLineError("what is read goes to stdout as it is: let that be a file or a pipe, no terminal")
    asyncio.run(_read(arguments.target, arguments.lba, arguments.blocks))
    return Answer({}, Text(), plain="")


async def _read(target: str, lba: int, blocks: int) -> None:
    async with open_namespace(target, readonly=True) as ns:
        if lba + blocks > ns.nsze:
            raise CommandLineError(f"{blocks} blocks at LBA {lba:#x}: {target} has {ns.nsze:#x} blocks, counted from 0")
        end = lba + blocks
        while lba < end:
            nlb = min(PIECE_BYTES // ns.lba_size, end - lba)
            if ns.zoned:  # few devices read across the boundary of zones
                nlb = min(nlb, ns.zsze - lba % ns.zsze)
            write_data((await ns.read(lba, nlb)).data)
            lba += nlb
