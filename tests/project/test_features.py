"""The page of what works on which kernel: what is written is what is read back, and a difference is found."""

import json
from pathlib import Path

from tests import features

REPEATED = "every test of faults, 20 times"

RESULTS = {
    "release": "6.1.0-56-amd64",
    "paths": {},
    "features": {
        "copy": {"interrupt queue": {"passed": 6}, "polled queue": {"passed": 6}},
        "doctor": {"QEMU's controllers": {"passed": 3}},
        "flush": {"interrupt queue": {"passed": 5, "failed": 1}},
    },
    "needs": {"unprivileged use": "6.2"},
}


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    """A row for each feature, a column for each kernel, and nothing that the tests did not find."""
    old, again, new = tmp_path / "guest-6.1.json", tmp_path / "more" / "guest-6.1.json", tmp_path / "guest-7.3.json"
    again.parent.mkdir()
    old.write_text(json.dumps(RESULTS))
    again.write_text(
        json.dumps(RESULTS | {"features": {"copy": {"raw queue": {"passed": 1}}, REPEATED: {"": {"passed": 9}}}})
    )
    new.write_text(json.dumps(RESULTS | {"features": {"copy": {"polled queue": {"passed": 1}}}, "needs": {}}))
    kernels = features.outcomes([new, old, again])
    page = features.page(kernels)
    assert "| | Linux 6.1 | Linux 7.3 |" in page
    assert "| copy | interrupt, polled | polled |" in page
    assert "| doctor | yes | - |" in page
    assert "| flush | fails: interrupt queue | - |" in page
    assert "| unprivileged use | from 6.2 | - |" in page
    assert f"| {REPEATED} | yes | - |" in page
    assert "| release | 6.1.0-56-amd64 | 6.1.0-56-amd64 |" in page
    said = features.parse(page)
    assert features.differences(said, kernels) == []
    assert features.differences(said, features.outcomes([old, new])) == []
    said["6.1"]["copy"] = "interrupt"
    assert features.differences(said, kernels) == [
        "copy on Linux 6.1: the page says 'interrupt', the tests 'interrupt, polled'"
    ]


def test_the_page_in_the_repository_can_be_read() -> None:
    """It has the oldest kernel that is supported, and says of no feature that it fails."""
    said = features.parse(features.PAGE.read_text())
    assert "6.1" in said
    assert not [cell for cells in said.values() for cell in cells.values() if "fails" in cell]
