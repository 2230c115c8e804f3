"""What a job will take, as lines of text."""

from __future__ import annotations

from typing import Any

from jobs.amounts import shown_bytes, shown_s, three_digits

Document = dict[str, Any]


def estimate_lines(estimate: Document) -> list[str]:
    """A line for each stage that is to do something, with where the figures are from, and one in all."""
    lines = [f"{each['stage']:>7}  {_told(each)}; from {each['from']}" for each in estimate["stages"]]
    if len(lines) > 1:
        lines.append(f" in all  {_told(estimate['total'])}")
    if estimate["unknown"]:
        which = ", ".join(estimate["unknown"])
        lines.append(f"What {which} will take is not known from earlier runs: --calibrate 256 measures a sample.")
    return lines


def _told(each: Document) -> str:
    parts = [f"about {three_digits(each['cpu_s'])} CPU-s{_interval(each)}"]
    parts += [f"{three_digits(each['gpu_s'])} GPU-s"] if each["gpu_s"] else []
    parts += [shown_s(each["seconds"]), f"{shown_bytes(each['bytes_read'])} read"]
    parts += [f"{shown_bytes(each['bytes_written'])} written"]
    parts += [f"{three_digits(each['money']['total'])} {each['money']['currency']}"] if "money" in each else []
    return ", ".join(parts)


def _interval(each: Document) -> str:
    if each["low"] is None:
        return " (one measurement: how far off is not known)"
    low, high = (three_digits(each[side] * each["cpu_s"]) for side in ("low", "high"))
    return f" (90 %: {low} to {high})"
