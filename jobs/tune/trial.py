"""Trials: the embedding of a sample of the source, in lakes that are thrown away, with settings to be tried."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.embed import embedded
from jobs.ingest import IngestConfig
from jobs.run import Listener, make_executor
from jobs.tune.clock import Clocked, pace
from jobs.tune.model import Outcome
from jobs.tune.space import Setting
from miner.bottleneck import pools
from miner.embed import DEFAULT_ENCODERS
from miner.encoders import get_encoder
from miner.errors import BadInput, MinerError, NotFound, UsageError
from miner.lake import Lake
from miner.readers import Reader
from miner.schema import SAMPLE_DATA, SCENES, check
from miner.store import Store

_MOST_BAD = 0.1


@dataclass(frozen=True)
class Sample:
    """Scenes and readings of a source."""

    scenes: pa.Table
    readings: pa.Table

    def write(self, folder: Path, units: int) -> None:
        """Make a lake of `units` of the readings, evenly spaced."""
        chosen = np.arange(units) * len(self.readings) // units
        store = Store.create(str(folder))
        for table, rows in {"scenes": self.scenes, "sample_data": self.readings.take(pa.array(chosen))}.items():
            store.ensure(table)
            store.append(table, rows)


def sample(reader: Reader, encoders: Sequence[str], units: int) -> Sample:
    """At least `units` readings that the encoders take, or all there are, of scenes spread over the source.

    Raises UsageError where there are none, BadInput where no scene can be read.
    """
    wanted = pa.array({get_encoder(name).input.modality for name in encoders or DEFAULT_ENCODERS.values()})
    scenes, readings, found, failed = [SCENES.empty_table()], [SAMPLE_DATA.empty_table()], 0, None
    for name in _spread([scene.name for scene in reader.scenes()]):
        if found >= units:
            break
        try:
            tables = reader.read(name)
        except BadInput as bad:
            failed = bad
            continue
        own = check(tables.sample_data, SAMPLE_DATA)
        own = own.filter(pc.is_in(own["modality"], wanted))
        scenes.append(check(tables.scenes, SCENES))
        readings.append(own)
        found += len(own)
    if not found and failed is not None:
        raise failed
    if not found:
        raise UsageError(f"{reader.source}: no readings of {', '.join(wanted.to_pylist())}", "Name another --encoder.")
    return Sample(pa.concat_tables(scenes), pa.concat_tables(readings))


def _spread(names: Sequence[str]) -> list[str]:
    """All names, so that any first few of them are spread over all: the order of reversed bits."""
    width = max(len(names) - 1, 1).bit_length()
    return [names[at] for at in sorted(range(len(names)), key=lambda at: int(f"{at:0{width}b}"[::-1], 2))]


@dataclass
class Trials:
    """Measures settings on a sample. Lakes are made below `folder`, one for each trial, and removed after it."""

    config: IngestConfig
    sample: Sample
    folder: Path
    cpus: int
    restart: Callable[[], None] = lambda: None  # Ray of one's own, for another size of its object store
    _bases: dict[int, Path] = field(default_factory=dict)
    _store_gb: Any = None

    def __call__(self, setting: Setting, units: int) -> Outcome:
        """Embed `units` readings. Raises UsageError and NotFound: what is wrong there is wrong for every setting."""
        config = IngestConfig(**{**self.config.model_dump(), **setting, "lake": str(self.folder / "trial")})
        if config.object_store_gb != self._store_gb:
            self._store_gb = config.object_store_gb
            self.restart()
        shutil.copytree(self._base(units), config.lake)
        began_s = time.perf_counter()
        try:
            return self._outcome(config, setting, units, began_s)
        except (UsageError, NotFound):
            raise
        except MinerError as error:
            return Outcome(setting, units, 0.0, {}, time.perf_counter() - began_s, error.message)
        finally:
            shutil.rmtree(config.lake, ignore_errors=True)

    def _outcome(self, config: IngestConfig, setting: Setting, units: int, began_s: float) -> Outcome:
        executor = Clocked.of(make_executor(config, Listener()))
        lake = Lake(Store.open(config.lake), executor)
        report = embedded(lake, config, config.encoder)
        if report.quarantined > _MOST_BAD * units:  # they take less time than good ones
            reasons = ", ".join(report.reasons)
            raise MinerError(f"{report.quarantined} of {units} readings cannot be read: {reasons}")
        apart = bool(config.num_gpus) and config.executor == "ray"
        found = pace(executor.came, report.commit_s, (config.decode_workers or self.cpus) if apart else 0)
        seconds = time.perf_counter() - began_s
        return Outcome(setting, units, found.rate, found.busy, seconds, pools=pools(apart))

    def _base(self, units: int) -> Path:
        """A lake with so many readings, not embedded yet."""
        if units not in self._bases:
            path = self.folder / f"readings-{units}"
            self.sample.write(path, units)
            self._bases[units] = path
        return self._bases[units]
