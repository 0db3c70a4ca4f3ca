"""The ``aionvme`` command: what can be done with a namespace from a shell.

Each command finds out what it has to say first, and says it once: as a page for people, or with ``--json`` as one document. On
a terminal the page has colours; in a pipe it is plain, and no line is wrapped or cut.

Exit status: 0 done, 1 it went wrong or a check failed, 2 the command line makes no sense or rich is missing, 130 interrupted,
141 nobody read on.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import aionvme
from aionvme.cli.bench import plan
from aionvme.cli.trace import replay
from aionvme.doctor import one_line
from aionvme.errors import AionvmeError

if TYPE_CHECKING:
    from aionvme.cli.render import Answer

EXIT_STATUS = "Exit status: 0 done, 1 it went wrong or a check failed, 2 the command line makes no sense."

TARGET_HELP = "a namespace's character device (/dev/ng0n1), or an emulated one ('emu:zns', 'emu:nvm?size=1GiB')"

COMMANDS = {
    "demo": "append from many tasks at once to an emulated zoned namespace, and verify it all",
    "list": "the NVMe namespaces of this machine",
    "info": "what a namespace and its controller say of themselves",
    "doctor": "what works here, what does not, and what to do about it",
    "bench": "IOPS, latency and processor time over queue depth, size and pattern",
    "compare": "two saved runs of bench side by side",
    "trace": "what a traced run did: commands, latencies, zones, in numbers and as a figure",
    "replay": "carry out a trace once more, on any target, and put the two runs side by side",
}


class CommandLineError(AionvmeError):
    """The command line makes no sense, as only its target or a file that it names can tell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; ``argv`` is the process's own where None."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except CommandLineError as error:
        print(f"aionvme: {error}", file=sys.stderr)
        return 2
    except (AionvmeError, OSError) as error:
        print(f"aionvme: {one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aionvme", description="Await an NVMe device, from a shell.", epilog=EXIT_STATUS
    )
    parser.add_argument("--version", action="version", version=f"aionvme {aionvme.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        form = command.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="print one JSON document")
        if name in ("trace", "replay"):
            command.add_argument("trace", metavar="TRACE.npy", type=Path, help="what `aionvme.open(..., trace=)` kept")
        if name in ("info", "bench", "replay"):
            command.add_argument("target", metavar="TARGET", help=TARGET_HELP)
        if name == "doctor":
            command.add_argument("target", metavar="TARGET", nargs="?", help=f"{TARGET_HELP}; without it, every device")
        if name == "bench":
            form.add_argument("--csv", action="store_true", help="print a row for each point, separated by commas")
            plan.add_options(command)
        if name == "compare":
            command.add_argument("a", metavar="A.json", type=Path, help="a run that `aionvme bench --save` kept")
            command.add_argument(
                "b", metavar="B.json", type=Path, help="another, whose figures are divided by those of A"
            )
        if name == "trace":
            command.add_argument(
                "--figure",
                type=Path,
                metavar="FILE.png",
                help="draw zones, latencies and depth over time (needs matplotlib)",
            )
        if name == "replay":
            replay.add_options(command)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    try:
        import_module("rich")
    except ModuleNotFoundError:
        print(
            "aionvme: the command line needs rich: pip install 'aionvme[cli]', or '.[cli]' in a clone", file=sys.stderr
        )
        return 2
    from aionvme.cli.render import as_text

    run: Callable[[argparse.Namespace], Answer] = import_module(f"aionvme.cli.{arguments.command}_command").run
    answer = run(arguments)
    if sys.stdout is not None:  # as under `>&-`
        if arguments.json:
            text = json.dumps(answer.document, indent=2)
        else:
            text = as_text(answer.page, sys.stdout) if answer.plain is None else answer.plain
        _write(sys.stdout, text)
    return answer.exit_status


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    try:
        print(text.rstrip("\n").encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except OSError:
        # The reader is gone, or the disk is full. Python flushes once more at exit: let what is left go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
