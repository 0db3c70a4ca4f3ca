"""The description of an emulated device: what it accepts, and what it says of what it does not."""

from pathlib import Path

import pytest

from aionvme.emulator import DeviceSpec, parse_spec
from aionvme.errors import UsageError

MIB = 1 << 20


def test_every_key_of_a_zoned_device() -> None:
    """Each key of the query ends up in the field of its name, sizes in bytes and latency in nanoseconds."""
    spec = parse_spec(
        "emu:zns?zones=16&zone_size=4MiB&zone_capacity=3MiB&lba=4096&mar=8&mor=6&zdes=128&zrwas=64KiB&zrwafg=16KiB&numzrwa=2&file=/tmp/a%20b&seed=7&latency=80us"
        "&mdts=64KiB&zasl=32KiB"
    )
    assert spec == DeviceSpec(
        zoned=True,
        lba=4096,
        size_bytes=64 * MIB,
        zone_size=4 * MIB,
        zone_capacity=3 * MIB,
        mar=8,
        mor=6,
        zdes=128,
        zrwas=65536,
        zrwafg=16384,
        numzrwa=2,
        file=Path("/tmp/a b"),
        seed=7,
        latency_ns=(80_000, 80_000),
        mdts_bytes=65536,
        zasl_bytes=32768,
    )
    assert (spec.zones, spec.nsze) == (16, 16384)


def test_every_key_of_a_conventional_device() -> None:
    """A namespace without zones has a size and no zone fields."""
    spec = parse_spec("emu:nvm?size=64MiB&lba=512")
    assert (spec.zoned, spec.lba, spec.size_bytes, spec.nsze, spec.zones) == (False, 512, 64 * MIB, 131072, 0)


@pytest.mark.parametrize("text", ["emu:nvm", "emu:zns", "emu:zns?", "emu:nvm?"])
def test_everything_has_a_default(text: str) -> None:
    """Nothing needs to be said: in memory, no latency, 512 KiB a transfer."""
    spec = parse_spec(text)
    assert (spec.file, spec.latency_ns, spec.seed, spec.mdts_bytes) == (None, (0, 0), 0, 524288)


def test_the_append_limit_follows_a_smaller_transfer_limit() -> None:
    """ZASL never exceeds MDTS, which is what a default larger than it would do."""
    assert parse_spec("emu:zns").zasl_bytes == 131072
    assert parse_spec("emu:zns?mdts=64KiB").zasl_bytes == 65536


@pytest.mark.parametrize(
    ("latency", "expected"),
    [
        ("5ns", (5, 5)),
        ("1.5us", (1500, 1500)),
        ("50us-200us", (50_000, 200_000)),
        ("900us-1ms", (900_000, 1_000_000)),
        ("0s-2s", (0, 2_000_000_000)),
    ],
)
def test_latency(latency: str, expected: tuple[int, int]) -> None:
    """A time stands for itself, a range for its two ends."""
    assert parse_spec(f"emu:nvm?latency={latency}").latency_ns == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "emu:nvm or emu:zns"),
        ("/dev/ng0n1", "emu:nvm or emu:zns"),
        ("emu:kv", "emu:nvm or emu:zns"),
        ("emu:nvm?siez=1MiB", "size, lba, file, seed, latency, mdts"),
        ("emu:nvm?zones=4", "size, lba, file, seed, latency, mdts"),
        ("emu:zns?size=4MiB", "zones, zone_size, zone_capacity"),
        ("emu:nvm?size", "'size'"),
        ("emu:nvm?size=", "'size'"),
        ("emu:nvm?size=1MiB&size=1MiB", "'size' is given twice"),
        ("emu:nvm?&", "takes size"),
        ("emu:nvm?size=1MB", "size=1MB"),
        ("emu:nvm?size=-1", "size=-1"),
        ("emu:nvm?size=0", "size=0"),
        ("emu:nvm?size=17TiB", "16TiB"),
        ("emu:nvm?size=1000", "size=1000: not a multiple of the logical block, 512"),
        ("emu:nvm?lba=4096&size=512", "not a multiple of the logical block, 4096"),
        ("emu:nvm?lba=1024", "lba=1024"),
        ("emu:nvm?lba=4KiB", "lba=4KiB"),
        ("emu:nvm?seed=x", "seed=x"),
        ("emu:nvm?latency=80", "latency=80"),
        ("emu:nvm?latency=1us-2us-3us", "latency=1us-2us-3us"),
        ("emu:nvm?latency=2us-1us", "the shortest comes first"),
        ("emu:nvm?latency=1us-", "latency=1us-"),
        ("emu:nvm?mdts=5000", "mdts=5000"),
        ("emu:nvm?mdts=4096", "mdts=4096"),
        ("emu:zns?zones=0", "zones=0"),
        ("emu:zns?zones=2000000&zone_size=4096", "zones=2000000"),
        ("emu:zns?zone_size=1000", "zone_size=1000"),
        ("emu:zns?zone_capacity=1000", "zone_capacity=1000"),
        ("emu:zns?zone_size=4MiB&zone_capacity=5MiB", "more than zone_size=4194304"),
        ("emu:zns?mar=4&mor=5", "mor=5: more open zones than active ones, mar=4"),
        ("emu:zns?mar=4294967296", "mar=4294967296"),
        ("emu:zns?mdts=64KiB&zasl=128KiB", "zasl=131072: more than mdts=65536"),
        ("emu:zns?zasl=12KiB", "zasl=12288"),
        ("emu:zns?zrwafg=4KiB", "zrwafg=4096: it takes zrwas too"),
        ("emu:zns?numzrwa=1", "numzrwa=1: it takes zrwas too"),
        ("emu:zns?zrwas=1000", "zrwas=1000: not a multiple of the logical block, 4096"),
        ("emu:zns?zrwas=64KiB&zrwafg=1KiB", "zrwafg=1024: not a multiple of the logical block"),
        ("emu:zns?zrwas=64KiB&zrwafg=0", "zrwafg=0: it takes at least one logical block"),
        ("emu:zns?zrwas=64KiB&zrwafg=48KiB", "zrwas=65536: not a multiple of zrwafg=49152"),
        ("emu:zns?zrwas=64KiB&zrwafg=32KiB&zone_capacity=48KiB", "zone_capacity=49152: not a multiple of zrwafg"),
        ("emu:zns?zrwas=64KiB&zone_capacity=32KiB", "zrwas=65536: more than zone_capacity=32768"),
        ("emu:zns?zrwas=256MiB&zone_size=256MiB", "zrwas=268435456: at most 65535 logical blocks"),
        ("emu:zns?zrwas=64KiB&numzrwa=17", "numzrwa=17: at most 16"),
        ("emu:zns?zrwas=64KiB&mar=4&numzrwa=5", "numzrwa=5: at most 4"),
        ("emu:zns?zdes=100", "zdes=100: it takes a multiple of 64"),
        ("emu:zns?zdes=16KiB", "zdes=16384: it takes a multiple of 64 bytes, at most 16320"),
    ],
)
def test_garbage_is_refused_with_what_would_do(text: str, said: str) -> None:
    """A UsageError names what is wrong, or the keys there are."""
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert said in str(caught.value)


def test_a_random_write_area_is_flushed_block_by_block_unless_said_otherwise() -> None:
    """The size alone makes areas: their granularity is a logical block, and every zone may have one."""
    spec = parse_spec("emu:zns?lba=512&zrwas=64KiB")
    assert (spec.zrwas, spec.zrwafg, spec.numzrwa) == (65536, 512, 0)
    assert (parse_spec("emu:zns").zrwas, parse_spec("emu:zns").zrwafg) == (0, 0)


def test_open_zones_are_limited_alone() -> None:
    """MOR without MAR is fine: no limit is more than any."""
    assert parse_spec("emu:zns?mor=5").mor == 5
