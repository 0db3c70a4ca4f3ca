"""A map of all zones of a namespace: a line for each where there is room for that, else a cell for each or for several."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from aionvme.cli.render import STATE_STYLES, MapRow, state_style, zone_map
from aionvme.nvme.opcodes import ZoneState
from aionvme.zones.display import state_name

LETTERS = {
    ZoneState.OFFLINE: "X",
    ZoneState.READ_ONLY: "R",
    ZoneState.EXPLICITLY_OPENED: "e",
    ZoneState.IMPLICITLY_OPENED: "i",
    ZoneState.CLOSED: "c",
    ZoneState.FULL: "F",
    ZoneState.EMPTY: ".",
}
"""What stands for a state in a cell. A cell of several zones has the first of these that is the state of one of them."""

UNKNOWN = "?"

CELL_WIDTH = 3

PIPE_WIDTH, PIPE_LINES = 80, 40
"""The map in a pipe: columns, and zones that it has lines for. More have a cell each, however many they are."""

LEGEND_LINES = 5
"""Lines that explain the cells, at most."""

LEAST_LINES = 4
"""Lines of cells that a terminal gets, however small it is."""

LEVELS_ASCII = " 12345678"
LEVELS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


class ZoneMap:
    """``other_lines`` are those of the terminal that something else needs."""

    def __init__(self, rows: Sequence[MapRow], other_lines: int) -> None:
        self._rows = rows
        self._other_lines = other_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        room = max(console.height - self._other_lines, 1) if console.is_terminal else PIPE_LINES
        lines = zone_map(self._rows[:room])
        if len(self._rows) <= room and Measurement.get(console, options, lines).maximum <= options.max_width:
            yield lines
        else:
            levels = LEVELS_ASCII if options.ascii_only else LEVELS
            room = max(room - LEGEND_LINES, LEAST_LINES) if console.is_terminal else len(self._rows)
            yield from self._grid(options.max_width, room, levels)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """It takes what a terminal has."""
        width = options.max_width if console.is_terminal else PIPE_WIDTH
        return Measurement(width, width)

    def _grid(self, columns: int, lines: int, levels: str) -> Iterator[Text]:
        rows = self._rows
        label = len(str(len(rows)))
        across = max((columns - label - 1) // CELL_WIDTH, 1)
        across -= across % 8 if across > 8 else 0
        group = -(-len(rows) // (across * lines))
        for first in range(0, len(rows), across * group):
            line = Text(f"{first:>{label}} ", "dim")
            for start in range(first, min(first + across * group, len(rows)), group):
                line.append_text(_cell(rows[start : start + group], levels))
            yield line
        yield Text()
        there = {row.zs for row in rows}
        yield Text("   ").join(
            Text.assemble((letter, STATE_STYLES[zs]), f" {state_name(zs)}")
            for zs, letter in LETTERS.items()
            if zs in there
        )
        if group > 1:
            yield Text(
                f"each cell is {group} zones: the first of these states that is among theirs, and how full they are together",
                "dim",
            )


def _cell(zones: Sequence[MapRow], levels: str) -> Text:
    states = {zone.zs for zone in zones}
    zs = next((zs for zs in LETTERS if zs in states), None)
    letter = UNKNOWN if zs is None else LETTERS[zs]
    fill = level(sum(zone.fill for zone in zones), sum(zone.zcap for zone in zones))
    return Text(f"{letter}{levels[fill]} ", state_style(zones[0].zs if zs is None else zs))


def level(part: int, whole: int) -> int:
    """Eighths of the whole: something is never nothing, and not quite all never all."""
    return 8 if part >= whole > 0 else max(part * 8 // whole, 1) if part else 0
