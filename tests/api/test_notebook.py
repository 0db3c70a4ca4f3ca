"""Zones and zone reports in a notebook: HTML that says what the objects say, and arrays that stay what they were."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aionvme
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.once]

BLOCK = 4096
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB


class Table(HTMLParser):
    """The rows of a table as a browser has them, its caption, and the paragraphs beside it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: dict[str, str] = {}
        self.tags: set[str] = set()
        self._tag = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A row or cell begins."""
        assert not {name for name, _ in attrs} - {"max", "value", "colspan"}  # nothing that loads or runs anything
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self._tag = tag

    def handle_data(self, data: str) -> None:
        """Text of what began last."""
        if self.rows and self._tag in ("td", "th", "meter"):
            self.rows[-1][-1] += data.strip()
        else:
            self.texts[self._tag] = data


def html(thing: Any) -> str | None:
    """What a notebook asks for."""
    text: str | None = thing._repr_html_()
    return text


def table_of(thing: Any) -> Table:
    """The same, parsed."""
    return Table(html(thing) or "")


async def prepare(ns: aionvme.Namespace) -> None:
    """Zone 1 has three blocks, zone 2 is full, zone 3 was closed."""
    await ns.reset_zone(select_all=True)
    await ns.zones.refresh()
    await ns.zones[1].append(bytes(3 * BLOCK))
    await ns.zones[2].finish()
    await ns.zones[3].write(bytes(BLOCK))
    await ns.zones[3].close()


EXPECTED = [
    ["zslba", "state", "wp", "written", "zcap", "attributes"],
    ["0x0", "empty", "0x0", "0", "768", ""],
    ["0x400", "implicitly opened", "0x403", "3", "768", ""],
    ["0x800", "full", "", "768", "768", ""],
    ["0xc00", "closed", "0xc01", "1", "768", ""],
    ["0x1000", "empty", "0x1000", "0", "768", ""],
]


async def test_zones(place: Place) -> None:
    """ns.zones shows each zone's state, write pointer and fill, how many are open and active, and of how many."""
    async with place.open(place.zns) as ns:
        await prepare(ns)
        table = table_of(ns.zones)
        assert table.rows[:6] == EXPECTED
        assert len(table.rows) == 1 + 32
        assert table.texts["caption"] == (
            f"{place.zns}: 32 zones of 1024 blocks, 1 of at most 6 open, 2 of at most 8 active"
        )


async def test_a_zone_in_doubt(zns: aionvme.Namespace) -> None:
    """What is not known is not made up."""
    await zns.reset_zone(ZONE)
    table = table_of(zns.zones)
    assert table.rows[2] == ["0x400", "in doubt"]


async def test_report(place: Place) -> None:
    """A report shows the same, also sliced and filtered."""
    async with place.open(place.zns) as ns:
        await prepare(ns)
        report = await ns.report_zones()
        assert table_of(report).rows[:6] == EXPECTED
        assert table_of(report[1:3]).rows == [EXPECTED[0], *EXPECTED[2:4]]
        assert table_of(report[report["zs"] == aionvme.ZoneState.CLOSED]).rows == [EXPECTED[0], EXPECTED[4]]


async def test_a_report_is_the_array_it_was(zns: aionvme.Namespace) -> None:
    """Data type, fields, rows and comparisons are numpy's own; what holds no zones is a plain array, and not shown as zones."""
    report = await zns.report_zones()
    assert isinstance(report, np.ndarray)
    assert report.dtype.names == ("zslba", "zcap", "wp", "zs", "zt", "za", "zai")
    for plain in (report["zs"], report == report.copy(), report[["zslba", "wp"]], report["wp"] - report["zslba"]):
        assert type(plain) is np.ndarray
    assert type(report[0]) is np.void
    assert bool((report == np.asarray(report)).all())
    assert report["zslba"].tolist() == [zone * ZONE for zone in range(32)]
    assert html(report.reshape(4, 8)) is None
    assert html(report.view(np.uint8)) is None


async def test_many_zones_are_cut_with_a_note(tmp_path: Path) -> None:
    """64 rows at most, and what is left out is said; of ns.zones it is those that are not active. Names are escaped."""
    async with aionvme.open(f"emu:zns?zones=1000&zone_size=64KiB&file={tmp_path}/<b>") as ns:
        await ns.zones[700].append(bytes(BLOCK))
        await ns.zones[300].open()
        table = table_of(ns.zones)
        assert [row[0] for row in table.rows[1:]] == ["0x12c0", "0x2bc0"]
        assert table.texts["p"] == "998 zones are not shown, those that are not active among them"
        assert f"{tmp_path}/<b>" in table.texts["caption"]
        assert "b" not in table.tags
        table = table_of(await ns.report_zones())
        assert len(table.rows) == 1 + 64
        assert table.texts["p"] == "936 more zones are not shown: slice the report"


async def test_a_state_that_the_specification_does_not_know() -> None:
    """A number stands where there is no name."""
    async with aionvme.open("emu:zns?zones=1") as ns:
        report = await ns.report_zones()
        report["zs"] = 9
        assert table_of(report).rows[1][1] == "0x9"
