"""The C programs beside this file: the native core under the sanitizers, optimised, and under valgrind."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "_native"

CASES = {
    "core_test": [
        "open_close",
        "larger_than_ring",
        "reap_bounded",
        "completion_overflow",
        "lost_completion",
        "stale_slots",
        "other_thread",
        "buffers",
        "open_errors",
        "uring_cmd",
        "no_queue",
        "batches",
        "batch_slots",
        "batch_in_flight",
    ],
    "core_wakeups": ["eventfd_protocol", "late_signal", "arm_races", "deferred_work"],
    "core_timing": [
        "buckets",
        "latencies",
        "latencies_of_batches",
        "polls",
        "linger",
        "linger_over_batch",
        "linger_refills",
    ],
    "core_load": ["signal_storm", "interrupted", "failing_entry", "enter_errors", "soak"],
}

BUILDS = {
    "sanitized": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "optimised": ["-O2"],
}

NOT_UNDER_VALGRIND = ["arm_races", "signal_storm", "interrupted", "enter_errors"]
"""Valgrind runs one thread at a time and fifty times slower, and system call filters would go on for the cases after."""

SKIPPED = 77
"""Exit code of a case for which the kernel is too old."""


@pytest.fixture(scope="session", params=BUILDS)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled programs. A compiler is needed to build aionvme at all: without one this fails."""
    directory = tmp_path_factory.mktemp(request.param)
    for name in CASES:
        subprocess.run(
            [
                *shlex.split(os.environ.get("CC", "gcc")),
                *("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", *BUILDS[request.param]),
                *(f"-I{NATIVE}", HERE / f"{name}.c", NATIVE / "core.c", "-luring", "-pthread", "-o", directory / name),
            ],
            check=True,
        )
    return directory


@pytest.mark.parametrize(("program", "case"), [(program, case) for program in CASES for case in CASES[program]])
def test_case(programs: Path, program: str, case: str) -> None:
    """What the comment above the case's function says; no sanitizer complains, and the compiler has no warning."""
    run([programs / program, case])


@pytest.mark.parametrize("program", CASES)
@pytest.mark.parametrize("programs", ["optimised"], indirect=True)
def test_every_case_is_run(programs: Path, program: str) -> None:
    """The cases named here are those the program has."""
    listed = subprocess.run([programs / program], check=True, capture_output=True, text=True)
    assert listed.stdout.split() == CASES[program]


@pytest.mark.parametrize("program", CASES)
@pytest.mark.parametrize("programs", ["optimised"], indirect=True)
def test_under_valgrind(programs: Path, program: str) -> None:
    """No read of what was never written, no access outside of a block, no memory or file left behind."""
    cases = [case for case in CASES[program] if case not in NOT_UNDER_VALGRIND]
    run(["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", programs / program, *cases])


def run(command: list[str | Path]) -> None:
    """Run a test program, and fail with what it says where it does."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stderr
