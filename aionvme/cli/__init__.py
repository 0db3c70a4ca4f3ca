"""The ``aionvme`` command: what can be done with a namespace from a shell.

Each command is a module with ``add_arguments(parser)`` and ``run(arguments)``, imported only when it is the one that was called.
It finds out what it has to say first, and says it once: as a page for people, or with ``--json`` as one document. On
a terminal the page has colours; in a pipe it is plain, and no line is wrapped or cut.

Exit status: 0 done, 1 it went wrong or a check failed, 2 the command line makes no sense or rich is missing, 130 interrupted,
141 nobody read on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

import aionvme
from aionvme.cli.streams import write_text
from aionvme.doctor import one_line
from aionvme.errors import AionvmeError

if TYPE_CHECKING:
    from aionvme.cli.render import Answer

EXIT_STATUS = "Exit status: 0 done, 1 it went wrong or a check failed, 2 the command line makes no sense."

COMMANDS = {
    "demo": "append from many tasks at once to an emulated zoned namespace, and verify it all",
    "list": "the NVMe namespaces of this machine",
    "info": "what a namespace and its controller say of themselves",
    "smart": "the health of a controller, its firmware, and the errors that it remembers",
    "doctor": "what works here, what does not, and what to do about it",
    "zones": "a map of the zones: state and fill of each, and how many are open and active",
    "report": "the zone report as a table, JSON or CSV",
    "reset": "make zones empty",
    "open": "open zones explicitly",
    "close": "close zones",
    "finish": "make zones full",
    "offline": "take read-only zones offline, for good",
    "append": "append stdin to a zone, and say where it was put",
    "read": "blocks of a namespace to stdout",
    "bench": "IOPS, latency and processor time over queue depth, size and pattern",
    "compare": "two saved runs of bench side by side",
    "trace": "what a traced run did: commands, latencies, zones, in numbers and as a figure",
    "replay": "carry out a trace once more, on any target, and put the two runs side by side",
}

MODULES = dict.fromkeys(("reset", "open", "close", "finish", "offline"), "manage")
"""What has no module of its own name."""


class CommandLineError(AionvmeError):
    """The command line makes no sense, as only its target or a file that it names can tell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; ``argv`` is the process's own where None."""
    argv = sys.argv[1:] if argv is None else argv
    named = [name for name in COMMANDS if name in argv]
    if named and find_spec("rich") is None:
        message = "the command line needs rich: pip install 'aionvme[cli]', or '.[cli]' in a clone"
        print(f"aionvme: {message}", file=sys.stderr)
        return 2
    arguments = _parser(named).parse_args(argv)
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


def _parser(named: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line that has these commands' names in it: only they need to be known in detail."""
    parser = argparse.ArgumentParser(
        prog="aionvme", description="Await an NVMe device, from a shell.", epilog=EXIT_STATUS
    )
    parser.add_argument("--version", action="version", version=f"aionvme {aionvme.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        command.set_defaults(json=False)
        if name in named:
            _module(name).add_arguments(command)
    return parser


def _module(name: str) -> ModuleType:
    return import_module(f"aionvme.cli.{MODULES.get(name, name)}_command")


def _run(arguments: argparse.Namespace) -> int:
    from aionvme.cli.render import as_text

    answer: Answer = _module(arguments.command).run(arguments)
    if sys.stdout is not None:  # as under `>&-`
        if arguments.json:
            text = json.dumps(answer.document, indent=2)
        else:
            text = as_text(answer.page, sys.stdout) if answer.plain is None else answer.plain
        if text:
            write_text(text)
    return answer.exit_status
