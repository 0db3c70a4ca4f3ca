"""What zones are made of."""

from collections.abc import Sequence
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from aionvme.buffers import Buffer
from aionvme.protecting import Protection
from aionvme.vectored import Data


class Commands(Protocol):
    """The commands of :class:`aionvme.Namespace`, or of a limited one, that zone objects use."""

    @property
    def target(self) -> str:
        """What was opened."""

    @property
    def zsze(self) -> int:
        """Size of every zone in logical blocks."""

    @property
    def nr_zones(self) -> int:
        """Number of zones."""

    @property
    def mor(self) -> int | None:
        """Most zones that may be open."""

    @property
    def mar(self) -> int | None:
        """Most zones that may be active."""

    @overload
    async def read(
        self,
        slba: int,
        nlb: int,
        *,
        into: Buffer | None = None,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> NDArray[np.uint8]:
        """Read blocks."""

    @overload
    async def read(
        self,
        slba: int,
        nlb: int,
        *,
        into: Sequence[Buffer],
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> list[NDArray[np.uint8]]: ...

    async def write(
        self,
        slba: int,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> None:
        """Write blocks."""

    async def zone_append(
        self,
        zslba: int,
        data: Data,
        *,
        fua: bool = False,
        metadata: Buffer | None = None,
        protection: Protection | None = None,
    ) -> int:
        """Append blocks."""

    async def report_zones(self, slba: int = 0, *, nr_zones: int | None = None) -> NDArray[np.void]:
        """Report zones."""

    async def open_zone(self, zslba: int, *, zrwa: bool = False) -> None:
        """Open a zone explicitly."""

    async def flush_zrwa(self, lba: int) -> None:
        """Commit blocks of a random write area."""

    async def set_zone_descriptor_extension(self, zslba: int, data: Buffer) -> None:
        """Set a zone's descriptor extension."""

    async def zone_descriptor_extension(self, zslba: int) -> NDArray[np.uint8] | None:
        """Get it."""

    async def changed_zones(self) -> NDArray[np.uint64] | None:
        """List zones that the controller changed."""

    async def close_zone(self, zslba: int) -> None:
        """Close a zone."""

    async def finish_zone(self, zslba: int) -> None:
        """Make a zone full."""

    async def reset_zone(self, zslba: int) -> None:
        """Make a zone empty."""

    async def offline_zone(self, zslba: int) -> None:
        """Take a zone offline."""
