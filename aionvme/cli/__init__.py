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
from typing import TYPE_CHECKING, TextIO

import aionvme
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
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; ``argv`` is the process's own where None."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
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
        command.add_argument("--json", action="store_true", help="print one JSON document")
        if name == "info":
            command.add_argument("target", metavar="TARGET", help=TARGET_HELP)
        if name == "doctor":
            command.add_argument("target", metavar="TARGET", nargs="?", help=f"{TARGET_HELP}; without it, every device")
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
        text = json.dumps(answer.document, indent=2) if arguments.json else as_text(answer.page, sys.stdout)
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
