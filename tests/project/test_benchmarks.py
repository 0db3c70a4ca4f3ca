"""The benchmarks run, and leave what can be read; how fast anything is, is not tested."""

import json
from pathlib import Path

import pytest

from benchmarks import features, harness, null_device, report, today

LITTLE = harness.Settings(depths=(16,), rounds=1, seconds=0.05)
ORDERED = harness.Settings(depths=(16,), rounds=3, seconds=0.05)
"""Enough for the best round of each contender to tell which is faster, though other work disturbs the rest."""


@pytest.mark.parametrize(
    ("benchmark", "settings"),
    [(null_device.BENCHMARK, ORDERED), (today.BENCHMARK, LITTLE), (features.BENCHMARK, LITTLE)],
    ids=["null_device", "today", "features"],
)
def test_a_benchmark_measures_every_contender(
    benchmark: harness.Benchmark, settings: harness.Settings, tmp_path: Path
) -> None:
    """Each contender of the part on this machine has a figure, or says why not, in the file and in the report."""
    result = harness.measure(benchmark, {"null": settings})
    part = result["parts"]["null"]
    rates = part["figures"]["commands_per_second"]
    assert set(part["figures"]) <= set(report.TITLES)
    assert set(rates).isdisjoint(part["cannot"])
    assert {*rates, *part["cannot"]} == set(benchmark.parts["null"].contenders)
    for rounds in rates.values():
        ((depth, in_rounds),) = rounds.items()
        assert depth == "16"
        assert len(in_rounds) == settings.rounds
        assert all(10 < rate < 1e9 for rate in in_rounds)
    assert {"kernel", "cpu", "cpus", "python", "optimised_python"} <= set(result["machine"])
    text = report.markdown(benchmark.name, result, benchmark.remarks(result))
    assert all(contender in text for contender in benchmark.parts["null"].contenders)
    harness.save(tmp_path, benchmark.name, result, text, lambda _: None)
    assert json.loads((tmp_path / f"{benchmark.name}.json").read_text()) == result
    if benchmark is null_device.BENCHMARK:
        check_order({contender: max(rounds["16"]) for contender, rounds in rates.items()})


def check_order(rates: dict[str, float]) -> None:
    """Nothing is faster than C, and no thread nor await of one command comes near to an array of them."""
    limit = rates.pop("C")
    arrays = [rates.pop(contender) for contender in null_device.BATCHES]
    # Usually it is 0.8 and 0.12: so much may a neighbour have disturbed even the best round of one of them.
    assert max(arrays) < 2 * limit
    assert max(rates.values()) < max(arrays)


def test_tables_have_medians_and_ratios_those_within_a_round() -> None:
    """Of three rounds the middle one counts, and the ratio is not that of the medians."""
    part: report.PartResult = {
        "title": "",
        "machine": {},
        "seconds": 1,
        "figures": {"commands_per_second": {"a": {"1": [1000, 9000, 2000]}, "b": {"1": [2000, 9000, 8000]}}},
        "cannot": {},
    }
    assert "| a | 2,000 |" in report.table(part["figures"]["commands_per_second"])
    ratios = report.ratios(part, [("a", "b"), ("a", "missing")])
    assert "| a / b | 50% |" in ratios
    assert "missing" not in ratios
