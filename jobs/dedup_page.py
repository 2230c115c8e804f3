"""What `miner dedup` says: in lines, and as a page of groups of duplicates."""

from __future__ import annotations

from typing import Any

from jobs.mining_page import Group, Page, render
from jobs.text import joined
from miner.dedup import Thinned
from miner.store import Store

_GROUPS, _CLIPS = 40, 8


def report_text(document: dict[str, Any]) -> str:
    """The outcome in a few lines, the guarantee first among them."""
    removed, rival = document["removed"], document["semdedup"]
    total = sum(removed.values())
    eps = ", ".join(f"{name} {value:.4g}" for name, value in document["eps"].items())
    dry = "Dry run, nothing is written: " if document["dry_run"] else ""
    lines = [
        f"{dry}{document['kept']:,} of {document['clips']:,} clips kept; {total:,} have one that stands for them",
        "  " + ", ".join(f"{count:,} {kind}" for kind, count in removed.items()) + f"; eps {eps}",
        *guarantee_lines(document),
        f"  SemDeDup's rule on {rival['clips']:,} of them: {rival['removed']:,} removed, "
        f"{rival['uncovered']:,} of these with no kept duplicate",
    ]
    where = (
        "" if document["dry_run"] or not total else f"Which stands for which: table duplicates of {document['lake']}"
    )
    return joined([*lines, *([where] if where else [])])


def guarantee_lines(document: dict[str, Any]) -> list[str]:
    """What was checked, in words."""
    found = document["guarantee"]
    return [
        f"  checked: {found['removed_without_a_kept_duplicate']} removed without a kept duplicate, "
        f"{found['kept_that_are_duplicates']} pairs of kept ones that are duplicates"
    ]


def page(store: Store, done: Thinned) -> str:
    """The largest groups: the kept clip first, then those it stands for."""
    rows = done.rows().sort_by([("kept_id", "ascending"), ("distance", "ascending"), ("clip_id", "ascending")])
    by_kept: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        by_kept.setdefault(row["kept_id"], []).append(row)
    largest = sorted(by_kept.items(), key=lambda each: (-len(each[1]), each[0]))[:_GROUPS]
    document = done.to_dict()
    removed, rival = document["removed"], document["semdedup"]
    return render(
        store,
        Page(
            title=f"Duplicates in {store.uri.rpartition('/')[2]}",
            lead=(
                "The first clip of each group is kept and stands for the others; nothing is deleted. "
                f"Checked: {document['guarantee']['removed_without_a_kept_duplicate']} removed clips lack a kept "
                f"duplicate, {document['guarantee']['kept_that_are_duplicates']} pairs of kept clips are duplicates. "
                f"SemDeDup's rule would leave {rival['uncovered']:,} of {rival['removed']:,} removed clips without one."
            ),
            numbers=[
                (f"{document['clips']:,}", "clips"),
                (f"{document['kept']:,}", "kept"),
                *((f"{count:,}", f"removed, {kind}") for kind, count in removed.items()),
                (f"{len(by_kept):,}", "groups"),
            ],
            groups=[
                Group(
                    f"{len(own) + 1} clips",
                    "" if len(own) < _CLIPS else f"the nearest {_CLIPS - 1} are shown",
                    [(kept, "kept"), *((row["clip_id"], _said(row)) for row in own[: _CLIPS - 1])],
                )
                for kept, own in largest
            ],
        ),
    )


def _said(row: dict[str, Any]) -> str:
    return f"{row['kind']}, distance {row['distance']:.4f}"
