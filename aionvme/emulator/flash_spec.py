"""What the flash of an emulated device is made of and how long it takes, for ``model=flash``."""

from dataclasses import dataclass

from aionvme.errors import UsageError

_DIES_MAX = 1 << 16


@dataclass(frozen=True)
class FlashSpec:
    """Dies, channels and times. ``dies`` are those of one channel; ``page`` is bytes, ``channel`` bytes per second.

    ``append_ns`` is how long a command has a zone's write pointer to itself, ``jitter`` the most percent by which a read, a
    program or an erase takes longer or shorter. ``zone_dies`` and ``append_ns`` mean nothing where there are no zones.
    """

    channels: int = 8
    dies: int = 4
    zone_dies: int = 4
    page: int = 16 << 10
    read_ns: int = 60_000
    program_ns: int = 500_000
    erase_ns: int = 3_500_000
    append_ns: int = 8_000
    channel: int = 800 << 20
    jitter: int = 5

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what no flash could be."""
        for key in ("channels", "dies", "zone_dies", "page", "channel"):
            _require(getattr(self, key) > 0, f"{key}={getattr(self, key)}: it takes at least 1")
        for key in ("read", "program", "erase"):
            _require(getattr(self, f"{key}_ns") > 0, f"{key}=0ns: it takes some time, such as 1us")
        _require(self.dies_total <= _DIES_MAX, f"channels={self.channels}&dies={self.dies}: at most {_DIES_MAX} dies")
        _require(
            self.zone_dies <= self.dies_total, f"zone_dies={self.zone_dies}: more than the {self.dies_total} there are"
        )
        _require(self.jitter <= 90, f"jitter={self.jitter}%: at most 90%")

    @property
    def dies_total(self) -> int:
        """Dies on all channels."""
        return self.channels * self.dies


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)
