"""A composed query, explained: what was compared, and what each part of its tree came to."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from miner.query.explain import Plan
from miner.query.look import Look
from miner.query.scan import Floats
from miner.query.text import query_text
from miner.query.tree import LOGICAL, RANKING, Concept, Disagree, Fuse, Node, Text, children


def outline(plan: Plan, tree: Node, look: Look, apart: Mapping[Disagree, Floats], started: float) -> None:
    """Notes of a query that began at `started` and has been compared: the rows of each sensor, then the parts.

    The rows of a part are the clips or frames it is likelier than not to be true of; those it has a score of, for a
    part that ranks.
    """
    for sensor, scan in look.scans.items():
        what = f"rows of {sensor} with {len(look.terms.directions[sensor])} directions, concepts and vectors made"
        plan.add("compare", what, (None, len(scan.rows)), started)
    if isinstance(tree, Fuse):
        for part in tree.parts:
            _add(plan, part.part, look, apart, f"weight {part.weight:g}", 0)
    else:
        _add(plan, tree, look, apart, "", 0)


def _add(plan: Plan, node: Node, look: Look, apart: Mapping[Disagree, Floats], note: str, depth: int) -> None:
    started, indent = time.perf_counter(), "  " * depth
    if isinstance(node, LOGICAL) or (depth and isinstance(node, Text)):
        count = int((np.nan_to_num(look.of(node)) >= 0.5).sum())
        if isinstance(node, Concept | Text):
            note = ", ".join(filter(None, [note, look.terms.concepts.method(node)]))
    elif isinstance(node, Disagree):
        count = int((~np.isnan(apart[node])).sum())
    else:
        columns = [look.column(("vector", each.sensor)) for each in look.terms.sought]
        count = int((~np.isnan(np.stack(columns)).all(axis=0)).sum())
    plan.add("part", f"{indent}{query_text(node)}", (None, count), started, note=note)
    if not isinstance(node, RANKING):
        for child in children(node):
            _add(plan, child, look, apart, "", depth + 1)
