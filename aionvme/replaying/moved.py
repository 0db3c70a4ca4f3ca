"""Where the blocks are now that an append had put elsewhere when it was traced."""

from bisect import bisect_right
from dataclasses import dataclass, field


@dataclass
class _Extents:
    """Of one zone, in order of their old addresses."""

    old: list[int] = field(default_factory=list)
    nlb: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)


class Moved:
    """The extents that appends have written since their zones were reset."""

    def __init__(self, zsze: int) -> None:
        self._zsze = zsze
        self._zones: dict[int, _Extents] = {}

    def landed(self, old: int, new: int, nlb: int) -> None:
        """An append that had landed at ``old`` has now landed at ``new``."""
        extents = self._zones.setdefault(old // self._zsze, _Extents())
        at = bisect_right(extents.old, old)
        extents.old.insert(at, old)
        extents.nlb.insert(at, nlb)
        extents.new.insert(at, new)

    def reset(self, slba: int, *, select_all: bool) -> None:
        """A zone was reset, or all of them."""
        if select_all:
            self._zones.clear()
        else:
            self._zones.pop(slba // self._zsze, None)

    def find(self, slba: int, nlb: int) -> int:
        """Where ``nlb`` blocks that were at ``slba`` are now, if appends have written all of them and they are still in one piece
        and in order; otherwise ``slba``."""
        extents = self._zones.get(slba // self._zsze) if self._zones else None
        if extents is None:
            return slba
        at = bisect_right(extents.old, slba) - 1
        if at < 0:
            return slba
        start = extents.new[at] + slba - extents.old[at]
        old, new = extents.old[at], extents.new[at]
        while True:
            if (extents.old[at], extents.new[at]) != (old, new):
                return slba
            old, new = old + extents.nlb[at], new + extents.nlb[at]
            if slba + nlb <= old:
                return start
            at += 1
            if at == len(extents.old):
                return slba
