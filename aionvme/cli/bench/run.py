"""A run: the points of a sweep with what they were measured on and with, and the document that it is kept in."""

import csv
import io
import json
import os
import platform
import sysconfig
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aionvme
from aionvme.cli import CommandLineError
from aionvme.cli.bench.point import Point
from aionvme.doctor import one_line

SCHEMA = {"name": "aionvme-bench", "version": 1}
"""The version changes when a field changes its meaning or goes away."""


@dataclass
class Run:
    """What a document says, but for its schema.

    ``target``, ``namespace``, ``queue`` and ``machine`` are what was measured and where, ``parameters`` what was asked for;
    ``incomplete`` is why points are missing, None where none are.
    """

    target: str
    namespace: dict[str, Any]
    queue: dict[str, Any]
    machine: dict[str, Any]
    parameters: dict[str, Any]
    points: list[Point]
    incomplete: str | None = None

    def document(self) -> dict[str, Any]:
        """The document, for programs."""
        return {"schema": SCHEMA, **asdict(self)}

    def as_csv(self) -> str:
        """The points, a row each."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(Point)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(point) for point in self.points)
        return text.getvalue()


def this_machine() -> dict[str, Any]:
    """What figures depend on besides the device."""
    return {
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        # Without it an interpreter is some ten per cent slower, and so is every await.
        "python_enable_optimizations": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        "aionvme": aionvme.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def load_run(file: Path) -> Run:
    """A run that was saved. Raises CommandLineError where the file holds none, naming what is wrong."""
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise CommandLineError(one_line(error)) from None
    except ValueError:  # of JSON, and of the encoding below it
        raise CommandLineError(f"{file} is no saved run: it is not JSON") from None
    try:
        return _run_of(document)
    except _NotSavedError as error:
        raise CommandLineError(f"{file} is no saved run: {error}") from None


class _NotSavedError(Exception):
    pass


def _run_of(document: object) -> Run:
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(schema, dict) or schema.get("name") != SCHEMA["name"]:
        raise _NotSavedError(f"its schema is not {SCHEMA['name']}")
    if schema.get("version") != SCHEMA["version"]:
        raise _NotSavedError(
            f"version {schema.get('version')!r} of its schema, and this aionvme reads {SCHEMA['version']}"
        )
    types: dict[str, type] = {
        "target": str,
        "namespace": dict,
        "queue": dict,
        "machine": dict,
        "parameters": dict,
        "points": list,
    }
    for name, kind in types.items():
        if not isinstance(document.get(name), kind):
            raise _NotSavedError(f"{name!r} is missing or of another kind")
    points = [_point_of(i, entry) for i, entry in enumerate(document["points"])]
    return Run(**{name: document[name] for name in types} | {"points": points}, incomplete=document.get("incomplete"))


def _point_of(i: int, entry: object) -> Point:
    values = entry if isinstance(entry, dict) else {}
    for field in fields(Point):
        if field.name not in values:
            raise _NotSavedError(f"point {i} has no {field.name!r}")
        if not isinstance(values[field.name], _TYPES[field.type]):
            raise _NotSavedError(f"point {i} has a {field.name!r} of another kind: {values[field.name]!r}")
    return Point(**{field.name: values[field.name] for field in fields(Point)})


_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    float | None: (int, float, type(None)),
    int | None: (int, type(None)),
    str | None: (str, type(None)),
}
