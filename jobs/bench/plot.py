"""Results of `miner bench` as a picture: a panel a group, a bar a case, lines for half of the repeats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miner.errors import UsageError

_BAR_INCHES = 0.45


def check_plots() -> None:
    """Raises UsageError, before anything is measured, where the library for plots is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError("plots need matplotlib", "pip install 'scene-miner[viz]'") from error


def write_plot(document: Mapping[str, Any], file: Path) -> None:
    """Write a PNG. Raises UsageError as `check_plots`."""
    check_plots()
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(row["group"] for row in document["rows"]))
    sizes = [sum(row["group"] == group for row in document["rows"]) for group in groups]
    figure = Figure(figsize=(9, 1 + _BAR_INCHES * sum(sizes) + 0.6 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for group, panel in zip(groups, panels, strict=True):
        rows = [row for row in document["rows"] if row["group"] == group]
        medians = [row["median"] for row in rows]
        errors = [[row["median"] - row["low"] for row in rows], [row["high"] - row["median"] for row in rows]]
        panel.barh([f"{row['case']}, {row['unit']}" for row in rows], medians, xerr=errors, color="tab:blue", capsize=3)
        panel.set(title=group, xscale="log")
        panel.invert_yaxis()
        panel.bar_label(panel.containers[-1], [f"{median:,.4g}" for median in medians], padding=4)
        panel.margins(x=0.25)
    about = document["machine"]
    figure.suptitle(f"{about['cores']} cores of {about['cpu']}")
    figure.savefig(file, format="png", dpi=100)
