"""``aionvme trace``: what a trace says, in numbers and as a figure.

Exit status 2 where the file holds no trace.
"""

import argparse
from pathlib import Path

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_form
from aionvme.cli.files import check_figure
from aionvme.cli.render import Answer
from aionvme.cli.trace.figure import draw
from aionvme.cli.trace.summary import page_of, summary_of
from aionvme.doctor import one_line
from aionvme.errors import UsageError
from aionvme.trace import Trace, load_trace

SCHEMA = {"name": "aionvme-trace", "version": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    add_trace(parser)
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="draw zones, latencies and depth over time (needs matplotlib)"
    )


def add_trace(parser: argparse.ArgumentParser) -> None:
    """A trace's file."""
    parser.add_argument("trace", metavar="TRACE.npy", type=Path, help="what `aionvme.open(..., trace=)` kept")


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    trace = read_trace(arguments.trace)
    if arguments.figure is not None:
        check_figure(arguments.figure)
        if not len(trace):
            raise CommandLineError(f"--figure {arguments.figure}: the trace has no commands to draw")
        draw(trace, arguments.trace.name, arguments.figure)
    summary = summary_of(trace)
    return Answer({"schema": SCHEMA, "trace": str(arguments.trace), **summary}, page_of(str(arguments.trace), summary))


def read_trace(file: Path) -> Trace:
    """The trace that a file holds. Raises CommandLineError where it holds none."""
    try:
        return load_trace(file)
    except (UsageError, OSError) as error:
        raise CommandLineError(one_line(error)) from None
