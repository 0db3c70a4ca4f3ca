"""How answers look: tables, verdicts and the zone map. Calm on a terminal, plain in a pipe."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TextIO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aionvme.doctor import Check
from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.display import state_name

PIPE_WIDTH = 100_000
"""Columns of a page that goes to a file or another program: more than any line has, so that none is wrapped."""

BAR_WIDTH = 24

VERDICT_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "absent": "dim"}

STATE_STYLES: dict[int, str] = {
    ZoneState.EMPTY: "dim",
    ZoneState.IMPLICITLY_OPENED: "cyan",
    ZoneState.EXPLICITLY_OPENED: "bright_cyan",
    ZoneState.CLOSED: "blue",
    ZoneState.FULL: "green",
    ZoneState.READ_ONLY: "yellow",
    ZoneState.OFFLINE: "red",
}


class Answer(NamedTuple):
    """What a command has to say: the document for programs, the page for people, the exit status for the shell.

    ``plain`` is text that was asked for in place of the page.
    """

    document: dict[str, Any] | list[dict[str, Any]]
    page: RenderableType
    exit_status: int = 0
    plain: str | None = None


class MapRow(NamedTuple):
    """A zone of the zone map; ``fill`` is how many of its ``zcap`` blocks are written."""

    zslba: int
    zs: int
    fill: int
    zcap: int


class Bar:
    """A bar of fixed width, in characters that the output has."""

    def __init__(self, part: int, whole: int, style: str) -> None:
        # Something is never drawn as nothing, and not quite all never as all.
        cells = part * BAR_WIDTH // whole if whole else 0
        self._cells = max(cells, 1) if part else 0
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        full, rest = ("#", ".") if options.ascii_only else ("\N{FULL BLOCK}", "\N{LIGHT SHADE}")
        yield Text.assemble((full * self._cells, self._style), (rest * (BAR_WIDTH - self._cells), "dim"))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """It neither grows nor shrinks."""
        return Measurement(BAR_WIDTH, BAR_WIDTH)


def as_text(page: RenderableType, stream: TextIO) -> str:
    """The page as ``stream`` should get it."""
    if stream.isatty():
        console = Console(file=stream, highlight=False)
        with console.capture() as captured:
            console.print(page)
        return captured.get()
    console = Console(
        file=stream, width=PIPE_WIDTH, color_system=None, force_terminal=False, legacy_windows=False, highlight=False
    )
    with console.capture() as captured:
        console.print(page)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def sections(*parts: RenderableType) -> Group:
    """Parts of a page, an empty line between them."""
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [Text(), part] if spaced else [part]
    return Group(*spaced)


def section(title: str, body: RenderableType) -> Group:
    """A part of a page under its title."""
    return Group(Text(title, "bold"), Padding(body, (0, 0, 0, 2), expand=False))


def facts(rows: Iterable[tuple[str, Any]]) -> Table:
    """Names and what they are; what is None is left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    return table


def columns(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table; a heading that starts with '>' stands over numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def check_list(checks: Iterable[Check]) -> Table:
    """Verdicts with what was found and, below that, what to do."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        style = VERDICT_STYLES[check.verdict]
        quiet = "dim" if check.verdict == "absent" else ""
        table.add_row(Text(check.verdict, style), Text(check.name, quiet), Text(check.found, quiet))
        if check.remedy:
            table.add_row("", "", Text(f"-> {check.remedy}", "dim" if quiet else "italic"))
    return table


def zone_map(rows: Sequence[MapRow]) -> Table:
    """The zones by number, with their states and how full they are."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        style = state_style(row.zs)
        table.add_row(
            Text(str(number)),
            Text(f"{row.zslba:#x}", "dim"),
            Bar(row.fill, row.zcap, style),
            Text(state_name(row.zs), style),
            Text(f"{row.fill} of {row.zcap} blocks", "dim" if not row.fill else ""),
        )
    return table


def state_style(zs: int) -> str:
    """The colour of a zone state; that of one which the specification does not know is none."""
    return STATE_STYLES.get(zs, "")


def size(len_bytes: int) -> str:
    """Bytes in the largest binary unit that leaves no long fraction."""
    value, units = float(len_bytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g} {units[0]}"


def plural(count: int, noun: str) -> str:
    """``1 zone``, ``2 zones``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
