"""A sweep: what of the plan makes no sense for this namespace is refused first, then point after point is measured."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from aionvme.cli import CommandLineError
from aionvme.cli.bench.load import block_bytes
from aionvme.cli.bench.places import extents_of
from aionvme.cli.bench.plan import DEFAULT_SIZE_BYTES, Pattern, Plan
from aionvme.cli.bench.point import measure
from aionvme.cli.bench.run import Run, this_machine
from aionvme.cli.render import size
from aionvme.namespace import Namespace
from aionvme.nvme.nvm import NLB_MAX
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.opening import open_namespace

IN_FLIGHT_MAX_BYTES = 512 << 20
"""Most data in flight: there are two buffers of it."""


@dataclass(frozen=True)
class Task:
    """A point that is to be measured."""

    pattern: Pattern
    size_bytes: int
    depth: int


Report = Callable[[Run, Task, int], None]
"""Told before each point: the run so far, the point, and how many there are in all."""


class Sweep:
    """A plan being carried out. ``run`` has the points that are done, whatever ended the rest; None before there was any."""

    def __init__(self, plan: Plan) -> None:
        self.run: Run | None = None
        self._plan = plan

    async def carry_out(self, report: Report) -> None:
        """Check the plan, and measure its points."""
        plan = self._plan
        async with self._open(plan.depths[0]) as ns:
            if not plan.readonly:
                ns.check_writable()
            sizes = plan.sizes or (max(DEFAULT_SIZE_BYTES, ns.lba_size),)
            tasks = [Task(*point) for point in product(plan.patterns, sizes, plan.depths)]
            region = _region(ns, plan)
            for task in tasks:
                await _check(ns, task, region)
            run = self.run = Run(
                target=ns.target,
                namespace=_namespace(ns),
                queue={"kind": ns.queue.kind, "why_not": dict(ns.queue.why_not), "detour": ns.queue.detour},
                machine=this_machine(),
                parameters=_parameters(plan, sizes, region * ns.lba_size),
                points=[],
            )
        for task in tasks:
            report(run, task, len(tasks))
            async with self._open(task.depth) as ns:
                run.points.append(await measure(ns, plan, task.pattern, task.size_bytes, task.depth, region))

    def _open(self, depth: int) -> AbstractAsyncContextManager[Namespace]:
        plan = self._plan
        return open_namespace(plan.target, queue=plan.queue, depth=depth, readonly=plan.readonly, force=plan.force)


def _parameters(plan: Plan, sizes: tuple[int, ...], region_bytes: int) -> dict[str, Any]:
    asked = asdict(plan) | {"patterns": [pattern.name for pattern in plan.patterns], "sizes": sizes}
    asked |= {"region_bytes": region_bytes}
    return {name: value for name, value in asked.items() if name not in ("target", "region", "overwrite", "force")}


def _namespace(ns: Namespace) -> dict[str, Any]:
    return {
        "mn": ns.controller.mn,
        "fr": ns.controller.fr,
        "lba_size": ns.lba_size,
        "nsze": ns.nsze,
        "zoned": ns.zoned,
    }


def _region(ns: Namespace, plan: Plan) -> int:
    """The region in blocks."""
    if plan.region is None:
        return ns.nsze
    unit, name = (ns.zsze * ns.lba_size, "zone") if ns.zoned else (ns.lba_size, "logical block")
    if plan.region % unit:
        raise CommandLineError(f"--region {plan.region} bytes: not a multiple of the {name}, {unit} bytes")
    if plan.region > ns.nsze * ns.lba_size:
        raise CommandLineError(f"--region {size(plan.region)}: the namespace has {size(ns.nsze * ns.lba_size)}")
    return plan.region // ns.lba_size


async def _check(ns: Namespace, task: Task, region: int) -> None:
    """Raise CommandLineError where a point makes no sense on this namespace."""
    name, append = task.pattern.name, task.pattern.opcode == NvmOpcode.ZONE_APPEND
    if append and not ns.zoned:
        raise CommandLineError(
            f"--pattern append: {ns.target} is a conventional namespace, which has no zones to append to"
        )
    if ns.zoned and task.pattern.opcode == NvmOpcode.WRITE:
        if task.pattern.random:
            raise CommandLineError(
                f"--pattern {name}: a zone is written in order, from its start; use append, or write at depth 1"
            )
        if task.depth > 1:
            raise CommandLineError(
                f"--pattern {name} at depth {task.depth}: writes to a zone must not overtake each other; use append, or --depth 1"
            )
    _check_size(ns, task, append)
    capacity = (await extents_of(ns, region, overwrites=task.pattern.overwrites)).capacity
    if task.size_bytes > capacity * ns.lba_size:
        what = "zones' capacity" if ns.zoned else "region"
        raise CommandLineError(
            f"--size {size(task.size_bytes)}: larger than the {what}, {size(capacity * ns.lba_size)}"
        )


def _check_size(ns: Namespace, task: Task, append: bool) -> None:
    option = f"--size {size(task.size_bytes)}"
    nlb, rest = divmod(task.size_bytes, ns.lba_size)
    if rest:
        raise CommandLineError(
            f"--size {task.size_bytes} bytes: not a multiple of the logical block, {ns.lba_size} bytes"
        )
    limit = ns.max_append_bytes if append else ns.max_transfer_bytes
    most = min(limit // block_bytes(ns), NLB_MAX)
    if nlb > most:
        raise CommandLineError(
            f"{option}: one {'append' if append else 'command'} takes at most {size(most * ns.lba_size)}"
        )
    if task.size_bytes * task.depth > IN_FLIGHT_MAX_BYTES:
        raise CommandLineError(
            f"{option} at depth {task.depth}: {size(task.size_bytes * task.depth)} in flight, more than "
            f"{size(IN_FLIGHT_MAX_BYTES)}"
        )
