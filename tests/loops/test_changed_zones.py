"""Zones that the device changes by itself, which only the emulated one can be made to do."""

import pytest

import aionvme
from aionvme import ZoneState
from aionvme.emulator.zone_states import Event

pytestmark = pytest.mark.anyio


async def test_worn_out_zones_are_listed_once() -> None:
    """A zone that the device made read only is in the Changed Zone List, once, and known for what it is then."""
    async with aionvme.open("emu:zns") as ns:
        await ns.zones[3].append(bytes(4096))
        assert await ns.zones.changed() == []
        ns._io.queue._device.namespace.zones.fire(3, Event.WEAR_OUT)  # type: ignore[attr-defined]
        assert ns.zones[3].zs == ZoneState.IMPLICITLY_OPENED
        assert await ns.zones.changed() == [ns.zones[3]]
        assert (ns.zones[3].zs, ns.zones[3].wp) == (ZoneState.READ_ONLY, None)
        assert await ns.zones.changed() == []
        with pytest.raises(aionvme.ZoneReadOnlyError):
            await ns.zones[3].append(bytes(4096))
        await ns.zones[3].offline()
        assert ns.zones.holders() == []
    assert [zone.zs for zone in ns.zones[2:5]] == [ZoneState.EMPTY, ZoneState.OFFLINE, ZoneState.EMPTY]
