"""``aionvme bench``: IOPS, latency and processor time over queue depth, size and pattern.

Exit status 1 where commands failed or the sweep broke off; what was measured until then is shown and kept all the same. So it
is after Ctrl-C.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_form, add_target
from aionvme.cli.bench.figure import draw
from aionvme.cli.bench.page import growing_page, page_of
from aionvme.cli.bench.plan import Plan, add_options, plan_of
from aionvme.cli.bench.run import Run
from aionvme.cli.bench.sweep import Report, Sweep
from aionvme.cli.files import check_figure, check_writable
from aionvme.cli.render import Answer
from aionvme.doctor import one_line
from aionvme.errors import AionvmeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser, csv="print a row for each point, separated by commas")
    add_target(parser)
    add_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    plan = plan_of(arguments)
    _check(plan, arguments.save, arguments.figure)
    sweep = Sweep(plan)
    exit_status = 0
    try:
        with _progress() as report:
            asyncio.run(sweep.carry_out(report))
    except (KeyboardInterrupt, AionvmeError, OSError) as error:
        if sweep.run is None or not sweep.run.points:
            if isinstance(error, KeyboardInterrupt):
                print("aionvme: interrupted before the first point was measured", file=sys.stderr)
            raise
        if isinstance(error, KeyboardInterrupt):
            sweep.run.incomplete, exit_status = "interrupted", 130
        else:
            sweep.run.incomplete, exit_status = one_line(error), 1
    result = sweep.run
    assert result is not None
    if any(point.errors for point in result.points):
        exit_status = exit_status or 1
    if not _keep(result, arguments.save, arguments.figure):
        exit_status = exit_status or 1
    plain = result.as_csv() if arguments.csv else None
    if plain is not None and result.incomplete:  # which a table says itself
        print(f"aionvme: not all points: {result.incomplete}", file=sys.stderr)
    return Answer(result.document(), page_of(result), exit_status, plain)


def _check(plan: Plan, save: Path | None, figure: Path | None) -> None:
    """Refuse, with nothing opened, what could only go wrong later."""
    destructive = [pattern.name for pattern in plan.patterns if pattern.overwrites]
    if destructive and not plan.overwrite:
        where = "the namespace" if plan.region is None else "the region"
        raise CommandLineError(
            f"--pattern {','.join(destructive)} destroys what {where} holds: say so with --overwrite"
        )
    if figure is not None:
        check_figure(figure)
    if save is not None:
        check_writable("--save", save)


def _keep(result: Run, save: Path | None, figure: Path | None) -> bool:
    """Write the files that were asked for; where that fails, say so, and give False."""
    writers: list[tuple[Path | None, Callable[[Path], object]]] = [
        (save, lambda file: file.write_text(json.dumps(result.document(), indent=2) + "\n")),
        (figure, lambda file: draw(result, file)),
    ]
    kept = True
    for file, write in writers:
        try:
            if file is not None:
                write(file)
        except OSError as error:
            print(f"aionvme: {one_line(error)}", file=sys.stderr)
            kept = False
    return kept


@contextmanager
def _progress() -> Iterator[Report]:
    """Show on a terminal how far the sweep is. Nothing is drawn while a point is measured: that would be measured, too."""
    stream = sys.stderr
    if stream is None or not stream.isatty():
        yield lambda *_: None
        return
    console = Console(file=stream, highlight=False)
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield lambda result, task, tasks: live.update(growing_page(result, task, tasks), refresh=True)
