"""A zone report as an array that a notebook shows as a table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aionvme.nvme.zones import ZONE
from aionvme.zones.display import ROWS, ZoneRow, zone_table
from aionvme.zones.record import NO_WRITE_POINTER


class ZoneReport(np.ndarray[Any, np.dtype[np.void]]):
    """An array of zones. What is taken or made from it and holds no zones is a plain array."""

    def __getitem__(self, key: Any) -> Any:
        return _plain_unless_zones(super().__getitem__(key))

    def __array_wrap__(self, array: Any, *arguments: Any) -> Any:
        return _plain_unless_zones(super().__array_wrap__(array, *arguments))

    def _repr_html_(self) -> str | None:
        """The first zones, for a notebook; None where that would not show what the array is."""
        if self.ndim != 1 or self.dtype != ZONE:
            return None
        more = len(self) - ROWS
        left_out = f"{more} more zones are not shown: slice the report" if more > 0 else ""
        return zone_table(f"a report of {len(self)} zones", zone_rows(self[:ROWS]), left_out)


def zone_rows(report: NDArray[np.void]) -> list[ZoneRow]:
    """The zones of a report, with the blocks that are written of each: all of its capacity where there is no write pointer."""
    return [
        ZoneRow(zslba, zs, None, zcap, zcap, za)
        if zs in NO_WRITE_POINTER
        else ZoneRow(zslba, zs, wp, wp - zslba, zcap, za)
        for zslba, zcap, wp, zs, _, za, _ in report.tolist()
    ]


def _plain_unless_zones(item: Any) -> Any:
    return item.view(np.ndarray) if isinstance(item, ZoneReport) and item.dtype != ZONE else item
