"""Writing a dataset version out: file after file, each whole or not there, resumed by the same call, with a manifest.

`manifest.json` is written first, with nothing in it, and last, complete. What is in between can be taken up by the same
call: files that the manifest lists are kept, others are made anew, and come out with the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from miner.decode import Recordings
from miner.destination import Destination
from miner.disk import disk_errors
from miner.errors import UsageError
from miner.exporters import Exporter, Part, find_exporter
from miner.exporters.content import Content, Options
from miner.failpoints import failpoint
from miner.reporting import Progress
from miner.training_sets import Dataset

MANIFEST = "manifest.json"
_SAVED_S = 10.0
Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Exported:
    """What an export came to. `manifest` is that of the destination; `written` of its files are new."""

    destination: str
    manifest: Mapping[str, Any]
    written: int
    dry_run: bool = False

    @property
    def left_out(self) -> Sequence[Mapping[str, str]]:
        """Readings that could not be read, and why."""
        found: Sequence[Mapping[str, str]] = self.manifest["left_out"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """As one JSON document."""
        head = {"destination": self.destination, "dry_run": self.dry_run, "written": self.written}
        return {**head, "manifest": dict(self.manifest)}


def export(
    dataset: Dataset,
    to: str,
    destination: str | Path,
    options: Options = Options(),  # noqa: B008  frozen
    on_progress: Watch = lambda progress: None,
    dry_run: bool = False,
) -> Exported:
    """Write a dataset version to a folder or object store as `to`: parquet, jsonl, webdataset or a plugin's name.

    The same call again goes on where it ended, or finds nothing to do. Raises UsageError where other files are there,
    UnknownName, NotFound, and MinerError of disk and store.
    """
    exporter, place = find_exporter(to), Destination.at(destination)
    with Recordings() as recordings:
        content = Content(dataset, options, recordings)
        content.check()
        parts = exporter.parts(len(dataset), options)
        about = _about(dataset, exporter, options)
        done = _begun(place, about)
        listed = {each["path"]: each for each in done.get("files", ())}
        there = place.files()
        kept = [each for each in listed.values() if there.get(each["path"]) == each["num_bytes"]]
        if dry_run or (done.get("complete") and len(kept) == len(parts)):
            manifest = done or {**about, "files": [], "left_out": [], "complete": False}
            return Exported(place.uri, manifest, 0 if not dry_run else len(parts) - len(kept), dry_run)
        with disk_errors(place.uri):
            place.sweep()
            work = _Work(
                exporter, content, place, about, {each["path"]: each for each in kept}, done.get("left_out", [])
            )
            manifest = work.run(parts, on_progress)
    return Exported(place.uri, manifest, len(parts) - len(kept))


class _Work:
    """An export at work: what is done, and the manifest of it."""

    def __init__(
        self,
        exporter: Exporter,
        content: Content,
        place: Destination,
        about: dict[str, Any],
        files: dict[str, dict[str, Any]],
        left_out: Sequence[dict[str, str]],
    ) -> None:
        self._exporter, self._content, self._place, self._about = exporter, content, place, about
        self._files = files
        self._left_out = [each for each in left_out if each["path"] in files]

    def run(self, parts: Sequence[Part], on_progress: Watch) -> dict[str, Any]:
        self._save(parts, complete=False)
        saved = time.monotonic()
        try:
            for number, part in enumerate(parts, 1):
                if part.path not in self._files:
                    self._write(part)
                on_progress(Progress("export", number, len(parts), len(self._left_out)))
                if time.monotonic() - saved > _SAVED_S:
                    self._save(parts, complete=False)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._save(parts, complete=False)
            raise
        return self._save(parts, complete=True)

    def _write(self, part: Part) -> None:
        placed, written = self._place.put(part.path, lambda file: self._exporter.write(part, self._content, file))
        failpoint("export:between-parts")
        self._files[part.path] = {**asdict(placed), "clips": part.last - part.first, "rows": written.rows}
        self._left_out += [{"path": part.path, **each} for each in written.left_out]

    def _save(self, parts: Sequence[Part], complete: bool) -> dict[str, Any]:
        files = [self._files[part.path] for part in parts if part.path in self._files]
        order = {part.path: number for number, part in enumerate(parts)}
        left_out = sorted(self._left_out, key=lambda each: (order[each["path"]], each["sample_data_id"]))
        manifest = {**self._about, "files": files, "left_out": left_out, "complete": complete}
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        self._place.put(MANIFEST, lambda file: file.write(text.encode()))
        return manifest


def _about(dataset: Dataset, exporter: Exporter, options: Options) -> dict[str, Any]:
    """Which export it is: the same for the same version, format and options, wherever and whenever it is made."""
    row = dataset.to_dict()
    version = {
        name: row[name] for name in ("version_id", "parent", "note", "seed", "digest", "spec", "tables", "run_id")
    }
    chosen = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()}
    return {
        "format": exporter.name,
        "options": chosen,
        "lake": dataset.store.uri,
        "dataset": {**version, "clips": len(dataset), "code_version": row["code_version"]},
        "lineage": _lineage(dataset),
    }


def _lineage(dataset: Dataset) -> list[dict[str, Any]]:
    """The runs that wrote the table versions it pins, and the one that made it."""
    columns = ["run_id", "job", "code_version", "outputs"]
    pins = dataset.snapshot.versions
    runs: dict[str, dict[str, Any]] = {}
    for event in dataset.store.scan("lineage", columns).to_pylist():
        mine = event["run_id"] == dataset.row["run_id"]
        tables = {each["table"] for each in event["outputs"] if mine or each["last"] <= pins.get(each["table"], 0)}
        if tables:
            run = {name: event[name] for name in ("run_id", "job", "code_version")}
            known = runs.setdefault(event["run_id"], {**run, "tables": []})
            known["tables"] = sorted({*known["tables"], *tables})
    return [runs[name] for name in sorted(runs)]


def _begun(place: Destination, about: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the same export at a place; empty where nothing is there. Raises UsageError for anything else."""
    data = place.read(MANIFEST)
    if data is None:
        if place.files():
            raise UsageError(f"{place.uri} is not empty, and no export of ours", "Give an empty or a new folder.")
        return {}
    try:
        found: dict[str, Any] = json.loads(data)
        same = all(found.get(name) == value for name, value in about.items() if name != "lineage")
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{place.uri}/{MANIFEST} is no manifest of ours: {error}", "Give an empty folder.") from error
    if not same:
        held = f"{found.get('format')} of {(found.get('dataset') or {}).get('version_id')}"
        what = f"{about['format']} of {about['dataset']['version_id']}"
        raise UsageError(
            f"{place.uri} has another export ({held}, not {what} with these options)", "Give another folder."
        )
    return {**found, **about}
