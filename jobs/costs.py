"""What the stages of a job cost, one by one and for a clip, as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from typing import Any

from miner.prices import Bill, Cost
from miner.reporting import Report


def costs(reports: Sequence[Report], clips: int) -> dict[str, Any]:
    """`total` of stages and, by stage, `stages` of a job: CPU- and GPU-seconds, bytes, and `money` where prices are
    known. Reductions and the building of indexes are not in it.

    `per_clip` is what the stage costs for one of the `clips` of the lake, be they of this run or not: by the cost of a
    unit and the units there are for a clip; None where there is no clip.
    """
    worked = [report for report in reports if report.usage.units]
    stages = {report.stage: _told(report.cost, report.money, _per_clip(report, clips)) for report in worked}
    total = reduce(add, (report.cost for report in worked), Cost())
    bills = [report.money for report in worked if report.money is not None]
    return {"stages": stages, "total": _told(total, _sum(bills), None)}


def _told(cost: Cost, money: Bill | None, per_clip: dict[str, float] | None) -> dict[str, Any]:
    told: dict[str, Any] = asdict(cost)
    if money is not None:
        told["money"] = asdict(money)
    return told | ({} if per_clip is None else {"per_clip": per_clip})


def _per_clip(report: Report, clips: int) -> dict[str, float] | None:
    if not clips:
        return None
    share = report.units / clips / max(report.written + report.quarantined, 1)
    told = asdict(report.cost * share)
    return told if report.money is None else told | {"money": report.money.total * share}


def _sum(bills: Sequence[Bill]) -> Bill | None:
    if not bills:
        return None
    total, cpu, gpu, read, written = (
        sum(getattr(bill, part) for bill in bills) for part in ("total", "cpu", "gpu", "read", "written")
    )
    return Bill(total, cpu, gpu, read, written, bills[0].currency)
