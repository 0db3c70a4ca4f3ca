"""What an emulated device is made of, and the one line that describes it: ``emu:zns?zones=16&zone_size=4MiB``.

Sizes are bytes, or a number with KiB, MiB, GiB or TiB. Latency is a time with ns, us, ms or s, or a range of two.
``model=flash`` takes the place of latency, with the options of flash_spec.py.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aionvme.emulator.flash_spec import FlashSpec
from aionvme.errors import UsageError
from aionvme.sizes import parse_size

PAGE_SIZE = 4096
"""The controller's minimum memory page size, the unit of MDTS and ZASL (Base 2.0, figure 275)."""

_SIZE_MAX = 16 << 40
_ZONES_MAX = 1 << 20
_ZDES_MAX = 255 * 64  # ZDES counts 64 bytes and is a byte itself
_TIME_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


@dataclass(frozen=True)
class DeviceSpec:
    """Geometry and settings of a device. Sizes are bytes; ``mar`` and ``mor`` are 1-based and 0 stands for no limit;
    ``zdes`` is the length of a zone descriptor extension. ``zrwas`` is the size of a zone random write area, 0 for none,
    ``zrwafg`` the granularity of its flushes, and ``numzrwa`` how many zones may have one, 0 for all of them.

    ``file`` None keeps the namespace in memory. ``seed`` and ``latency_ns``, the shortest and the longest, are for the
    transport, as is ``flash``, which takes the place of latencies; the seed also makes the UUID of a namespace in memory.
    """

    zoned: bool
    lba: int
    size_bytes: int
    zone_size: int = 0
    zone_capacity: int = 0
    mar: int = 0
    mor: int = 0
    zdes: int = 0
    zrwas: int = 0
    zrwafg: int = 0
    numzrwa: int = 0
    file: Path | None = None
    seed: int = 0
    latency_ns: tuple[int, int] = (0, 0)
    mdts_bytes: int = 512 << 10
    zasl_bytes: int = 128 << 10
    flash: FlashSpec | None = None

    def __post_init__(self) -> None:
        """Refuse, with UsageError, what no device could be."""
        _require(self.lba in (512, 4096), f"lba={self.lba}: the logical block is 512 or 4096 bytes")
        if self.zoned:
            self._check_zones()
        self._check_blocks("size", self.size_bytes)
        _require(self.size_bytes <= _SIZE_MAX, f"size={self.size_bytes}: a namespace is at most 16TiB")
        self._check_transfers()
        low, high = self.latency_ns
        _require(0 <= low <= high, f"latency={low}ns-{high}ns: the shortest comes first, and neither is negative")
        if self.flash is not None:
            _require(not high, f"latency={low}ns-{high}ns: with a model there is none, latencies come from it")
            page = self.flash.page
            _require(page % self.lba == 0, f"page={page}: not a multiple of the logical block, {self.lba} bytes")

    @property
    def nsze(self) -> int:
        """Namespace size in logical blocks."""
        return self.size_bytes // self.lba

    @property
    def zones(self) -> int:
        """Number of zones, 0 of a namespace that is not zoned."""
        return self.size_bytes // self.zone_size if self.zoned else 0

    def _check_blocks(self, key: str, value: int) -> None:
        _require(value > 0, f"{key}={value}: it takes at least one logical block")
        _require(value % self.lba == 0, f"{key}={value}: not a multiple of the logical block, {self.lba} bytes")

    def _check_transfers(self) -> None:
        for key, value in (("mdts", self.mdts_bytes), ("zasl", self.zasl_bytes)):
            units = value // PAGE_SIZE
            _require(
                units >= 2 and units & (units - 1) == 0 and value % PAGE_SIZE == 0,
                f"{key}={value}: it takes a power of two, at least {2 * PAGE_SIZE} bytes",
            )

    def _check_zones(self) -> None:
        self._check_blocks("zone_size", self.zone_size)
        self._check_blocks("zone_capacity", self.zone_capacity)
        _require(
            self.zone_capacity <= self.zone_size,
            f"zone_capacity={self.zone_capacity}: more than zone_size={self.zone_size}",
        )
        _require(self.size_bytes % self.zone_size == 0, f"size={self.size_bytes}: not a whole number of zones")
        _require(self.zones <= _ZONES_MAX, f"zones={self.zones}: at most {_ZONES_MAX}")
        _require(self.zasl_bytes <= self.mdts_bytes, f"zasl={self.zasl_bytes}: more than mdts={self.mdts_bytes}")
        _require(
            self.zdes % 64 == 0 and self.zdes <= _ZDES_MAX,
            f"zdes={self.zdes}: it takes a multiple of 64 bytes, at most {_ZDES_MAX}",
        )
        for key, limit in (("mar", self.mar), ("mor", self.mor)):
            _require(0 <= limit < 1 << 32, f"{key}={limit}: it takes 0 (no limit) to {2**32 - 1}")
        _require(
            not self.mar or self.mor <= self.mar,
            f"mor={self.mor}: more open zones than active ones, mar={self.mar}",
        )
        self._check_random_write_areas()

    def _check_random_write_areas(self) -> None:
        if not self.zrwas:
            for key, value in (("zrwafg", self.zrwafg), ("numzrwa", self.numzrwa)):
                _require(not value, f"{key}={value}: it takes zrwas too, the size of a zone random write area")
            return
        for key, value in (("zrwas", self.zrwas), ("zrwafg", self.zrwafg)):
            self._check_blocks(key, value)
            _require(value // self.lba < 1 << 16, f"{key}={value}: at most {(1 << 16) - 1} logical blocks")
        for key, value in (("zrwas", self.zrwas), ("zone_capacity", self.zone_capacity)):
            _require(value % self.zrwafg == 0, f"{key}={value}: not a multiple of zrwafg={self.zrwafg}")
        _require(self.zrwas <= self.zone_capacity, f"zrwas={self.zrwas}: more than zone_capacity={self.zone_capacity}")
        most = self.mar or self.zones
        _require(
            self.numzrwa <= most, f"numzrwa={self.numzrwa}: at most {most} zones are active, and others have no area"
        )


def parse_spec(text: str) -> DeviceSpec:
    """The device that a line such as ``emu:nvm?size=64MiB&lba=512`` describes; UsageError names what is wrong in it."""
    scheme, _, rest = text.partition(":")
    kind, _, query = rest.partition("?")
    if scheme != "emu" or kind not in _KEYS:
        raise UsageError(f"{text!r} describes no emulated device: it starts with emu:nvm or emu:zns")
    values = dict(_DEFAULTS[kind])
    given: set[str] = set()
    for item in query.split("&") if query else ():
        key, separator, value = item.partition("=")
        if key not in _KEYS[kind]:
            raise UsageError(f"{item!r} in {text!r}: emu:{kind} takes {', '.join(_KEYS[kind])}")
        if not separator or not value:
            raise UsageError(f"{key!r} in {text!r} has no value")
        if key in given:
            raise UsageError(f"{key!r} is given twice in {text!r}")
        given.add(key)
        values[key] = _KEYS[kind][key](key, value)
    values["flash"] = _flash(values, given)
    return _build(kind == "zns", values)


def _flash(values: dict[str, Any], given: set[str]) -> FlashSpec | None:
    keys = [key for key in _FLASH_KEYS if key in given]
    if "model" not in given:
        _require(not keys, f"{', '.join(keys)}: only with model=flash")
        return None
    _require(
        "latency" not in given, "model and latency are both given: with model=flash, latencies come from the model"
    )
    options = {f"{key}_ns" if _FLASH_KEYS[key] is _time else key: values[key] for key in keys}
    dies = options.get("channels", FlashSpec.channels) * options.get("dies", FlashSpec.dies)
    return FlashSpec(**{"zone_dies": min(FlashSpec.zone_dies, dies), **options})


def _build(zoned: bool, values: dict[str, Any]) -> DeviceSpec:
    common = {key: values[key] for key in ("lba", "file", "seed", "flash")}
    common |= {"latency_ns": values["latency"], "mdts_bytes": values["mdts"]}
    if not zoned:
        return DeviceSpec(zoned=False, size_bytes=values["size"], **common)
    zones, zone_size = values["zones"], values["zone_size"]
    _require(zones > 0, f"zones={zones}: it takes at least one zone")
    return DeviceSpec(
        zoned=True,
        size_bytes=zones * zone_size,
        zone_size=zone_size,
        zone_capacity=values.get("zone_capacity", zone_size),
        mar=values["mar"],
        mor=values["mor"],
        zdes=values["zdes"],
        zrwas=values["zrwas"],
        zrwafg=values.get("zrwafg", values["lba"] if values["zrwas"] else 0),
        numzrwa=values["numzrwa"],
        zasl_bytes=values.get("zasl", min(DeviceSpec.zasl_bytes, values["mdts"])),
        **common,
    )


def _number(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise UsageError(f"{key}={value}: it takes a whole number, such as 16")
    return int(value)


def _size(key: str, value: str) -> int:
    try:
        return parse_size(value)
    except UsageError as error:
        raise UsageError(f"{key}={value}: {error}") from None


def _latency(key: str, value: str) -> tuple[int, int]:
    bounds = _times(key, value, 2, "or a range: 80us, 50us-200us")
    return bounds[0], bounds[-1]


def _time(key: str, value: str) -> int:
    return _times(key, value, 1, "such as 80us")[0]


def _times(key: str, value: str, most: int, example: str) -> list[int]:
    times = [re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ns|us|ms|s)", part) for part in value.split("-")]
    times_ns = [round(float(time[1]) * _TIME_UNITS_NS[time[2]]) for time in times if time]
    if not 1 <= len(times) == len(times_ns) <= most:
        raise UsageError(f"{key}={value}: it takes a time with ns, us, ms or s, {example}")
    return times_ns


def _rate(key: str, value: str) -> int:
    if not value.endswith("/s"):
        raise UsageError(f"{key}={value}: it takes bytes per second, such as 800MiB/s")
    return _size(key, value.removesuffix("/s"))


def _percent(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}%", value):
        raise UsageError(f"{key}={value}: it takes whole percents, such as 5%")
    return int(value[:-1])


def _model(key: str, value: str) -> str:
    _require(value == "flash", f"{key}={value}: the model there is, is flash")
    return value


def _file(key: str, value: str) -> Path:
    return Path(unquote(value))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


_COMMON_KEYS = {"lba": _number, "file": _file, "seed": _number, "latency": _latency, "mdts": _size, "model": _model}
_NVM_FLASH_KEYS: dict[str, Any] = {
    "channels": _number,
    "dies": _number,
    "page": _size,
    "read": _time,
    "program": _time,
    "channel": _rate,
    "jitter": _percent,
}
_FLASH_KEYS: dict[str, Any] = {**_NVM_FLASH_KEYS, "zone_dies": _number, "erase": _time, "append": _time}
_KEYS: dict[str, dict[str, Any]] = {
    "nvm": {"size": _size, **_COMMON_KEYS, **_NVM_FLASH_KEYS},
    "zns": {
        "zones": _number,
        "zone_size": _size,
        "zone_capacity": _size,
        "mar": _number,
        "mor": _number,
        "zdes": _size,
        "zrwas": _size,
        "zrwafg": _size,
        "numzrwa": _number,
        "zasl": _size,
        **_COMMON_KEYS,
        **_FLASH_KEYS,
    },
}
_COMMON_DEFAULTS = {"file": None, "seed": 0, "latency": (0, 0), "mdts": DeviceSpec.mdts_bytes}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "nvm": {"size": 64 << 20, "lba": 512, **_COMMON_DEFAULTS},
    "zns": {
        "zones": 16,
        "zone_size": 4 << 20,
        "lba": 4096,
        "mar": 0,
        "mor": 0,
        "zdes": 0,
        "zrwas": 0,
        "numzrwa": 0,
        **_COMMON_DEFAULTS,
    },
}
