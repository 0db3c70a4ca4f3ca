"""``aionvme doctor``: what works here, what does not, and what to do about it. Exit status 1 where a check failed."""

import argparse
import asyncio
from dataclasses import asdict

from rich.text import Text

from aionvme.cli.arguments import TARGET_HELP, add_form, add_target
from aionvme.cli.render import Answer, check_list, plural, section, sections
from aionvme.doctor import Diagnosis, diagnose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    add_target(parser, nargs="?", help=f"{TARGET_HELP}; without it, every device")


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    diagnosis = asyncio.run(diagnose(arguments.target))
    document = {
        "machine": [asdict(check) for check in diagnosis.machine],
        "targets": [asdict(target) for target in diagnosis.targets],
        "failed": diagnosis.failed,
    }
    page = sections(
        section("This machine", check_list(diagnosis.machine)),
        *(section(target.target, check_list(target.checks)) for target in diagnosis.targets),
        _conclusion(diagnosis),
    )
    return Answer(document, page, exit_status=1 if diagnosis.failed else 0)


def _conclusion(diagnosis: Diagnosis) -> Text:
    if diagnosis.failed:
        return Text(
            f"{plural(diagnosis.failed, 'check')} failed. 'emu:zns' and 'emu:nvm' work all the same.", "bold red"
        )
    if not diagnosis.targets:
        return Text("Nothing is broken. There is no device to try; 'emu:zns' and 'emu:nvm' need none.", "bold")
    return Text("Nothing is broken.", "bold green")
