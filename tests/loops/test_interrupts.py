"""SIGINT, as Ctrl-C sends it, with commands in flight. On a real device: tests/guest/test_faults_signals.py."""

import signal

import pytest

from tests.interrupting import interrupt


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_interrupted_once(loop: str) -> None:
    """Every task ends, what is in flight is waited for, the namespace is closed, and KeyboardInterrupt ends the process."""
    report = interrupt(loop, "emu:nvm?latency=200ms", "emulated")
    assert report.returncode == -signal.SIGINT
    assert report.answer == {
        "ended": 6, "in_flight": 0, "state": "closed", "too_early": 0, "living": 0, "abandoned": 0,
    }  # fmt: skip
    assert 0.05 < report.took_s < 5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_interrupted_again_and_again(loop: str) -> None:
    """Whoever does not wait for commands of seconds and interrupts again does not hang, and no buffer is given up early."""
    report = interrupt(loop, "emu:nvm?latency=2s", "emulated", times=4)
    assert report.returncode == -signal.SIGINT
    assert report.took_s < 10
    assert report.answer is None or report.answer["too_early"] == 0
