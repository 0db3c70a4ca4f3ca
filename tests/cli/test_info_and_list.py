"""info says what the device says; list says what sysfs shows, and what it does not."""

import asyncio
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import aionvme
from aionvme import devices
from aionvme.cli import main


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The document a command prints."""
    assert main([*arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_info_of_a_zoned_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    """Every number of the spec comes back from the device."""
    spec = "emu:zns?zones=10&zone_size=2MiB&zone_capacity=1MiB&lba=512&mar=5&mor=3&mdts=64KiB&zasl=16KiB"
    document = json_of(capsys, "info", spec)
    assert document["target"] == spec
    assert document["namespace"]["nsze"] * 512 == document["namespace"]["size_bytes"] == 20 << 20
    assert document["limits"] == {"max_transfer_bytes": 64 << 10, "max_append_bytes": 16 << 10}
    assert document["controller"]["mdts_bytes"] == 4096 << document["controller"]["mdts"] == 64 << 10
    assert document["queue"]["kind"] == "emulated"
    zones = document["zones"]
    assert (zones["nr_zones"], zones["zsze"], zones["zcap_min"], zones["zcap_max"]) == (10, 4096, 2048, 2048)
    assert (zones["mar"], zones["mor"], zones["zasl_bytes"]) == (5, 3, 16 << 10)
    assert zones["states"]["EMPTY"] == sum(zones["states"].values()) == 10
    assert document["smart"]["media_and_data_integrity_errors"] == 0
    assert document["smart_error"] is None


def test_info_of_a_conventional_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    """It has neither zones nor a limit on appends."""
    document = json_of(capsys, "info", "emu:nvm?size=1MiB")
    assert document["zones"] is None
    assert document["namespace"]["zoned"] is False
    assert document["limits"]["max_append_bytes"] is None


def test_info_page(capsys: pytest.CaptureFixture[str]) -> None:
    """People see sizes in units, limits as such and the zones by state."""
    assert main(["info", "emu:zns?zones=4&mor=2"]) == 0
    page = capsys.readouterr().out
    for part in ("16 MiB, 4096 blocks", "at most 2 zones open", "no limit", "4 empty", "35 C", "512 KiB"):
        assert part in page


def test_smart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Health, firmware and errors of an emulated controller; that of a file remembers none from before."""
    document = json_of(capsys, "smart", f"emu:nvm?size=1MiB&file={tmp_path / 'nvm.img'}")
    assert document["mn"] == "aionvme emulated device"
    assert document["smart"]["composite_temperature"] == 308
    assert document["smart"]["critical_warning"] == []
    assert document["firmware"] == {"active": 1, "next": None, "revisions": {"1": "1.0"}}
    assert document["errors"] == []
    assert main(["smart", "emu:nvm"]) == 0
    page = capsys.readouterr().out
    for part in ("aionvme emulated device", "35 C", "100 %, warns below 10 %", "slot 1", "1.0, runs"):
        assert part in page
    assert "Errors" not in page


def test_errors_that_a_controller_remembers() -> None:
    """The newest first, each with its status by name."""
    smart = import_module("aionvme.cli.smart_command")

    async def fail() -> list[dict[str, Any]]:
        async with aionvme.open("emu:nvm?size=1MiB") as ns:
            await ns.submit(aionvme.Command(0x90))
            await ns.submit(aionvme.Command(0x02, cdw10=1 << 20), into=bytearray(512))
            return [smart._error(entry) for entry in await ns.admin.error_information()]

    errors = asyncio.run(fail())
    assert [error["status"] for error in errors] == ["LBA Out of Range", "Invalid Command Opcode"]
    assert (errors[0]["error_count"], errors[0]["lba"], errors[0]["nsid"]) == (2, 1 << 20, 1)


def test_list_of_nothing(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no namespace the answer says so, and what works without one."""
    (sysfs / "class/nvme-generic/ng7n1/device").unlink()
    (sysfs / "class/nvme-generic/ng7n1").rmdir()
    assert json_of(capsys, "list") == {"namespaces": []}
    assert main(["list"]) == 0
    page = capsys.readouterr().out
    assert "no NVMe namespace" in page
    assert "emu:zns" in page
    assert "aionvme doctor" in page


def test_list_of_a_device_without_nodes(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What sysfs shows is listed, and that neither node is in /dev is said, as in a container."""
    (listed,) = json_of(capsys, "list")["namespaces"]
    assert listed == {
        "path": "/dev/ng7n1",
        "controller": "/dev/nvme7",
        "model": "Example ZNS SSD",
        "serial": "S0123",
        "size_bytes": 4 << 30,
        "lba_size": 4096,
        "zoned": True,
        "notes": ["there is no device node /dev/ng7n1", "there is no device node /dev/nvme7"],
    }
    assert main(["list"]) == 0
    page = capsys.readouterr().out
    assert "4 GiB" in page
    assert "zoned" in page
    assert "/dev/ng7n1: there is no device node /dev/nvme7" in page


def test_list_without_block_device(sysfs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace of a command set the kernel does not know has no size; nothing is made up."""
    (sysfs / "class/block").rename(sysfs / "class/none")
    (listed,) = json_of(capsys, "list")["namespaces"]
    assert (listed["size_bytes"], listed["lba_size"], listed["zoned"]) == (None, None, None)
    assert any("no block device nvme7n1" in note for note in listed["notes"])
    assert main(["list"]) == 0
    assert " ? " in capsys.readouterr().out


def test_the_block_device_of_a_namespace_may_have_another_number(sysfs: Path) -> None:
    """After controllers have come and gone, ng7n1's block device can be nvme3n1: it is found below the same controller.

    What is there besides, the hidden device of one path among several, is not it.
    """
    (device,) = devices.generic_devices()
    assert device.block_name == "nvme7n1"
    for name in ("nvme3c7n1", "nvme3n1", "nvme3n11"):
        (sysfs / "class/nvme/nvme7" / name).mkdir()
    (device,) = devices.generic_devices()
    assert device.block_name == "nvme3n1"
