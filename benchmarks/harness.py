"""What the benchmarks share: a fresh process for each measurement, contenders interleaved, medians, and what is made of them.

A benchmark is a module with a :class:`Benchmark`, run as ``python -m benchmarks.NAME``. It leaves NAME.json (every round of
every measurement, and the machine), NAME.md (tables) and NAME.png in docs/figures, or with ``--quick``, which measures less, in
.cache/bench. What concerns a device is measured in the test bed's virtual machine.
"""

import argparse
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import report

PROJECT = Path(__file__).resolve().parents[1]
CACHE = PROJECT / ".cache"
FIGURES = PROJECT / "docs/figures"

GUEST = ("--kernel", "raw", "--raw-queues", "0")
"""The virtual machine: two processors, one polled queue for each.

Its kernel is the one of _native/kernel, with which the test bed gives each emulated processor a thread of its own. With one
thread for all of them QEMU leaves memory barriers out, while its controller reads doorbells from memory: under fio, which may
submit one by one, a queue stands still before long, until the kernel gives up on its commands and resets the controller.
"""

Measures = dict[str, float]
"""What one measurement found: a number for each metric."""


class CannotError(Exception):
    """A contender cannot do the work; the message says why."""


@dataclass(frozen=True)
class Settings:
    """How much is measured: at which queue depths, in how many rounds, and for how many seconds each time."""

    depths: tuple[int, ...]
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Part:
    """Contenders for the same work in one place.

    ``measure`` takes a contender, a queue depth and the seconds to measure for. With ``guest`` it is called in the virtual
    machine. A part whose ``quick`` is None belongs to the full run alone. ``environment`` has variables that a contender's
    process gets.
    """

    title: str
    contenders: tuple[str, ...]
    measure: Callable[[str, int, float], Measures]
    full: Settings
    quick: Settings | None
    guest: bool = False
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """One question. ``remarks`` makes further tables, in Markdown, from the whole result; ``programs`` are compiled first."""

    name: str
    title: str
    parts: Mapping[str, Part]
    programs: tuple[str, ...] = ()
    remarks: Callable[[report.Result], list[str]] = lambda _: []


def machine() -> dict[str, Any]:
    """What the numbers were made on."""
    with open("/proc/cpuinfo") as cpuinfo:
        cpu = next((line.split(": ")[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    return {
        "kernel": platform.release(),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "optimised_python": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
    }


def emulator() -> str:
    """The version of what emulates the virtual machine."""
    version = subprocess.run(["qemu-system-x86_64", "--version"], check=True, capture_output=True, text=True).stdout
    return version.splitlines()[0]


def program(name: str) -> Path:
    """Where :func:`compile_program` leaves a program."""
    return CACHE / name


def compile_program(name: str) -> None:
    """Compile benchmarks/NAME.c together with the native core."""
    CACHE.mkdir(exist_ok=True)
    native = PROJECT / "_native"
    sources = [PROJECT / f"benchmarks/{name}.c", native / "core.c"]
    options = ["-O2", "-Wall", "-pthread", f"-I{native}"]
    subprocess.run(["gcc", *options, "-o", program(name), *sources, "-luring"], check=True)


def in_guest(module: str, arguments: Sequence[str], options: Sequence[str] = GUEST) -> Any:
    """Run a benchmark's module in the virtual machine, and take what it leaves there with :func:`leave`."""
    with tempfile.TemporaryDirectory() as results:
        bed = [sys.executable, "-m", "tests.vm", "--timeout", "7200", *options]
        command = [sys.executable, "-m", module, *arguments]
        environment = os.environ | {"AIONVME_VM_RESULTS": results}
        subprocess.run([*bed, "--", *command], check=True, cwd=PROJECT, env=environment)
        return json.loads((Path(results) / "result.json").read_text())


def leave(result: Any) -> None:
    """In the virtual machine: leave a result for :func:`in_guest`."""
    (Path(os.environ["AIONVME_VM_RESULTS"]) / "result.json").write_text(json.dumps(result))


def measure_part(benchmark: Benchmark, name: str, settings: Settings) -> report.PartResult:
    """Measure every contender at every depth, round after round, here."""
    part = benchmark.parts[name]
    figures: report.Figures = {}
    cannot: dict[str, str] = {}
    for number in range(settings.rounds):
        print(f"{benchmark.name}, {name}: round {number + 1} of {settings.rounds}", file=sys.stderr, flush=True)
        for depth in settings.depths:
            for contender in part.contenders:
                if contender not in cannot:
                    found = _measure_in_process(benchmark, name, contender, depth, settings.seconds)
                    if isinstance(found, str):
                        cannot[contender] = found
                        continue
                    for metric, value in found.items():
                        figures.setdefault(metric, {}).setdefault(contender, {}).setdefault(str(depth), []).append(
                            value
                        )
    return {
        "title": part.title,
        "machine": machine(),
        "seconds": settings.seconds,
        "figures": figures,
        "cannot": cannot,
    }


def _measure_in_process(benchmark: Benchmark, name: str, contender: str, depth: int, seconds: float) -> Measures | str:
    """One measurement in a fresh process, or why there is none."""
    part = benchmark.parts[name]
    if part.guest:
        # An emulated processor takes seconds to start Python and to import what this process has imported: a fork has it.
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        process = context.Process(target=lambda: answers.put(_one(part, contender, depth, seconds)))
        process.start()
        process.join()
        if process.exitcode == -signal.SIGILL:
            return "It was built for another processor than the emulated one (illegal instruction)."
        if process.exitcode:
            raise RuntimeError(f"{contender} at depth {depth} failed, and has said why")
        found: Measures | str = answers.get()
        return found
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark.name}", "--one", name, contender, str(depth), str(seconds)],
        check=True,
        cwd=PROJECT,
        env=os.environ | part.environment.get(contender, {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout)
    return found


def _one(part: Part, contender: str, depth: int, seconds: float) -> Measures | str:
    try:
        return part.measure(contender, depth, seconds)
    except CannotError as error:
        return str(error)


def measure(benchmark: Benchmark, settings: Mapping[str, Settings]) -> report.Result:
    """Measure the parts that there are settings for."""
    for name in benchmark.programs:
        compile_program(name)
    result: report.Result = {"title": benchmark.title, "machine": machine(), "parts": {}}
    for name, chosen in settings.items():
        if benchmark.parts[name].guest:
            result["machine"]["emulator"] = emulator()
            arguments = ["--guest", name, json.dumps([chosen.depths, chosen.rounds, chosen.seconds])]
            result["parts"][name] = in_guest(f"benchmarks.{benchmark.name}", arguments)
        else:
            result["parts"][name] = measure_part(benchmark, name, chosen)
    return result


def save(folder: Path, name: str, result: Any, text: str, draw: Callable[[Path], None]) -> None:
    """Leave a result in a folder: as JSON, as Markdown and as a figure, drawn into the file that ``draw`` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    draw(folder / f"{name}.png")


def main(benchmark: Benchmark) -> None:
    """Measure, write and print; or, where this is a process or a guest of that, the part of it."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.title)
    parser.add_argument("--quick", action="store_true", help="measure less, and leave it in .cache/bench")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--guest", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, contender, depth, seconds = options.one
        print(json.dumps(_one(benchmark.parts[name], contender, int(depth), float(seconds))))
        return
    if options.guest:
        depths, rounds, seconds = json.loads(options.guest[1])
        leave(measure_part(benchmark, options.guest[0], Settings(tuple(depths), rounds, seconds)))
        return
    chosen = {name: part.quick if options.quick else part.full for name, part in benchmark.parts.items()}
    result = measure(benchmark, {name: settings for name, settings in chosen.items() if settings})
    text = report.markdown(benchmark.name, result, benchmark.remarks(result))
    folder = CACHE / "bench" if options.quick else FIGURES
    save(folder, benchmark.name, result, text, lambda file: report.draw(result, file))
    print(text)
