"""README's tables from benchmarks/results/: `python -m benchmarks.readme` writes them between their marks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jobs.amounts import three_digits

ROOT = Path(__file__).resolve().parents[1]
VIEWS = ("centre-crop", "letterbox", "whole", "tiles", "whole+tiles")


def filled(readme: str) -> str:
    """The text of README with each `<!-- results:NAME -->` block made anew from `results/NAME.json`."""

    def block(match: re.Match[str]) -> str:
        document = json.loads((ROOT / "benchmarks" / "results" / f"{match[1]}.json").read_text())
        lines = TABLES.get(match[1], claims_table)(document)
        about = document["machine"]
        source = f"`{document['command']}` on {about['cores']} cores of {about['cpu']}, commit {document['commit']}"
        return "\n".join([f"<!-- results:{match[1]} -->", *lines, "", f"({source})", "<!-- end -->"])

    return re.sub(r"<!-- results:(\w+) -->.*?<!-- end -->", block, readme, flags=re.DOTALL)


def claims_table(document: dict[str, Any]) -> list[str]:
    """One line for each figure that has a target: ours, the rivals', the target and whether it holds."""
    figures: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in document["rows"]:
        if row["target"]:
            figures.setdefault((row["case"], row["metric"]), []).append(row)
    head = "| case | what | ours | rival | ratio | target | holds |"
    return [head, "|---|---|---|---|---|---|---|", *map(_claim, figures.values())]


def quality_table(document: dict[str, Any]) -> list[str]:
    """mAP over all queries, an encoder a line, a way of looking at the frame a column."""
    scores = {row["case"]: row["ours"] for row in document["rows"] if row["metric"] == "mAP"}
    encoders = list(dict.fromkeys(case.split(", ")[0] for case in scores if not case.startswith("random order")))
    lines = ["| mAP | " + " | ".join(VIEWS) + " |", "|---" * (len(VIEWS) + 1) + "|"]
    for encoder in encoders:
        cells = [scores[f"{encoder}, {views}, all"] for views in VIEWS]
        lines.append(f"| {encoder} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return [*lines, f"| random order | {scores['random order, all']:.2f}" + " | " * len(VIEWS) + "|"]


def query_table(document: dict[str, Any]) -> list[str]:
    """What queries find, an encoder a line: a text by every metric; sums and logic beside what they have to beat."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for row in document["rows"]:
        rows.setdefault((row["case"], row["metric"]), row)
    texts = [(case.split(", ")[0], metric) for case, metric in rows if case.endswith(", text, all")]
    encoders, metrics = (list(dict.fromkeys(each)) for each in zip(*texts, strict=True))
    head = [*(f"{metric}, text" for metric in metrics), *_SUMS.values()]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for encoder in encoders:
        cells = [f"{rows[f'{encoder}, text, all', metric]['ours']:.2f}" for metric in metrics]
        for kind in _SUMS:
            row = next(row for (case, _), row in rows.items() if case.startswith(f"{encoder}, {kind}, "))
            cells.append(f"{row['ours']:.2f} ({row['rival']:.2f})")
        lines.append(f"| {encoder} | {' | '.join(cells)} |")
    chance = [f"{rows[f'{encoders[0]}, text, all', metric]['rival']:.2f}" for metric in metrics]
    lines.append(f"| random order | {' | '.join([*chance, *([' '] * len(_SUMS))])} |")
    [(case, drive)] = [(case, row) for (case, metric), row in rows.items() if metric == "own drive first"]
    said = f"nearest is another sweep of its drive for {drive['ours']:.0%} (by chance {drive['rival']:.0%})"
    return [*lines, "", f"By LiDAR alone ({case}) the {said}."]


def search_table(document: dict[str, Any]) -> list[str]:
    """What a query costs at three recalls, an index and kind of query a line; then what has a target."""
    recalls = ("0.9", "0.95", "0.99")
    rows = {(row["case"], row["metric"]): row["ours"] for row in document["rows"]}
    lines = [f"| CPU-ms a query at recall@10 >= | {' | '.join(recalls)} | highest recall |", "|---|---|---|---|---|"]
    for case in [case for case, metric in rows if metric == "highest recall@10"]:
        costs = [rows.get((case, f"a query at recall@10 >= {recall}")) for recall in recalls]
        cells = ["-" if cost is None else f"{cost:.2f}" for cost in costs]
        lines.append(f"| {case} | {' | '.join(cells)} | {rows[case, 'highest recall@10']:.3f} |")
    return [*lines, "", *claims_table(document)]


def scale_table(document: dict[str, Any]) -> list[str]:
    """The forecast beside the engine; what it assumes and what a frame takes; then what so many frames cost, and the
    hours and the limit on fleets."""
    rows = {(row["case"], row["metric"]): row for row in document["rows"]}
    sizes = [case for case, metric in rows if metric == "requests"]
    fleets = list(
        dict.fromkeys(case.split(", ")[1] for case, metric in rows if metric == "time" and "frames, " in case)
    )
    whole = ["recordings read", "written to the lake", "CPU", "CPU, if none waits", "requests", "lake kept a month"]
    lines = [f"| | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for metric in whole:
        unit = rows[sizes[0], metric]["unit"]
        lines.append(f"| {metric}, {unit} | {' | '.join(three_digits(rows[size, metric]['ours']) for size in sizes)} |")
    for fleet in fleets:
        cells = []
        for size in sizes:
            case = f"{size}, {fleet}"
            [limit] = [metric.removeprefix("limit: ") for own, metric in rows if own == case and "limit: " in metric]
            hours, money = (three_digits(rows[case, metric]["ours"]) for metric in ("time", "nodes"))
            cells.append(f"{hours} h, {money} USD ({limit})")
        lines.append(f"| {fleet} (what limits) | {' | '.join(cells)} |")
    told = [
        f"| {case} | {metric}, {row['unit']} | {row['ours']:,g} |"
        for (case, metric), row in rows.items()
        if case == "assumed" or (case.startswith("a frame of ") and metric in ("CPU", "read", "written"))
    ]
    return [*claims_table(document), "", "| from | what | |", "|---|---|---|", *told, "", *lines]


def _claim(rows: list[dict[str, Any]]) -> str:
    """One figure, which is the same in all rows, beside the rival of each."""
    row = rows[0]
    rivals = [f"{each['rival']:.3g} ({each['rival_name']})" for each in rows if each["rival"] is not None]
    ratios = [f"{each['ratio']:.2f}" for each in rows if each["ratio"] is not None]
    held = [each["holds"] for each in rows]
    targets = dict.fromkeys(each["target"] for each in rows)
    cells = (
        row["case"],
        f"{row['metric']}, {row['unit']}",
        f"{row['ours']:.3g}",
        ", ".join(rivals) or "-",
        ", ".join(ratios) or "-",
        ", ".join(targets),
        "no" if False in held else "yes" if True in held else "-",
    )
    return "| " + " | ".join(cells) + " |"


_SUMS = {
    "text + picture": "mAP, text + picture (the better alone)",
    "camera + LiDAR": "mAP, camera + LiDAR (the better alone)",
    "X AND NOT Y": "precision@10, X AND NOT Y (one sentence)",
}
TABLES = {"search_quality": quality_table, "query_quality": query_table, "search": search_table, "scale": scale_table}


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text()))
