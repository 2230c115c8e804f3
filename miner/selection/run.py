"""Selecting in a lake: choose by a spec, and keep what was chosen as the next version of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miner.lineage import Run
from miner.selection.build import Selection, build
from miner.selection.spec import Spec
from miner.snapshot import Snapshot
from miner.sound import readable
from miner.training_sets import Dataset, Freezing, check_dataset_name, freeze

if TYPE_CHECKING:
    from miner.lake import Lake


@dataclass(frozen=True)
class Selected:
    """What a selection came to; `dataset` is the version that has it, None where nothing was to be written."""

    selection: Selection
    dataset: Dataset | None = None
    changed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        made = {"dataset": self.dataset.version_id if self.dataset else None, "changed": self.changed}
        lists = {"shortage": self.selection.shortage, "clips": self.selection.rows.to_pylist()}
        return {**made, "spec": self.selection.spec, **self.selection.report, **lists}


def select(lake: Lake, given: Spec | Mapping[str, Any] | str | Path, name: str | None, note: str | None) -> Selected:
    """Choose clips of a lake; with a name they are kept. Raises Infeasible where they are to be kept and are short."""
    spec = Spec.load(given)
    if name is not None:
        check_dataset_name(name)
        lake.store.assert_current()
    with readable(lake.store):
        selection = build(Snapshot.now(lake.store), spec)
    if name is None:
        return Selected(selection)
    selection.check()
    config = {"dataset": name, "spec": spec.to_dict(), "note": note}
    made, changed = freeze(name, selection, freezing(lake, "select", config, note))
    return Selected(selection, made, changed)


def freezing(lake: Lake, job: str, config: Mapping[str, Any], note: str | None = None) -> Freezing:
    """How a lake makes a version: by its executor's patience, in the name of a run of `job`."""
    import miner

    run = Run(job, {**lake.settings, **config}, miner.__version__, seed=config.get("spec", {}).get("seed"))
    return Freezing(run, note, wait=lake.executor.wait, notify=lake.executor.notify)
