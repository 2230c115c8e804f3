"""`miner tune`: the settings that are fastest on this machine, found by trials on a sample of a source."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.amounts import shown_s
from jobs.config import as_yaml
from jobs.ingest import IngestConfig
from jobs.run import Listener
from jobs.summary_text import PHASES
from jobs.tune.knobs import Machine, knobs, start
from jobs.tune.model import Outcome
from jobs.tune.search import MOST_TRIALS, Planned, Search, planned
from jobs.tune.space import Setting
from jobs.tune.trial import Trials, sample
from miner.embed import DEFAULT_ENCODERS, EmbedStage
from miner.errors import MinerError, UsageError
from miner.lake import open_source

_CALIBRATION = 16  # readings that are embedded for warmth, or in a dry run to tell how long the trials will take
_RAY_S = 6.0  # of a trial, to start and stop workers there: what a dry run reckons with
_BYTES = 1 << 30


@dataclass(frozen=True)
class Wish:
    """What is to be tuned: a run of `config`, on about `units` readings, within `trials` trials. `scratch`: where lakes
    of trials are made; a folder of this machine that is removed, unless given."""

    config: IngestConfig
    units: int = 512
    trials: int = MOST_TRIALS
    scratch: Path | None = None


@dataclass(frozen=True)
class Tuning:
    """A search that is ready to run."""

    search: Search
    trials: Trials
    units: int


@contextmanager
def tuning(wish: Wish) -> Iterator[Tuning]:
    """Sample the source and lay out the search. What was written for it is gone afterwards.

    Raises UsageError, NotFound and BadInput for a source or an encoder that cannot be used.
    """
    config = wish.config
    encoders = list(config.encoder or DEFAULT_ENCODERS.values())
    taken = sample(open_source(config.source, config.reader, config.dataset), encoders, wish.units)
    units = min(wish.units, len(taken.readings))
    machine = machine_of(config, wish.scratch)
    plan = planned(knobs(machine, units), units, wish.trials)
    space = knobs(machine, plan.units[0])
    plan = planned(space, units, wish.trials)
    began = start(space, machine, EmbedStage(tuple(encoders)).batch_size)
    with tempfile.TemporaryDirectory(prefix="miner-tune-", dir=wish.scratch) as folder:
        trials = Trials(config, taken, Path(folder), machine.cpus, _restart(config))
        yield Tuning(Search(space, began, plan), trials, units)


def run(wish: Wish, listener: Listener) -> dict[str, Any]:
    """Search; the document tells what was tried and what is best. Ctrl-C ends it with what is best so far."""
    with tuning(wish) as found:
        search, interrupted = found.search, False
        try:
            if wish.config.executor == "local":  # what this process loads and compiles once is of no trial
                found.trials(search.start, min(_CALIBRATION, found.units))
            for outcome in search.run(found.trials):
                listener.notify(_line(search, outcome))
                if len(search.outcomes) == 1 and outcome.failed:
                    break  # with the settings of a run without any
        except KeyboardInterrupt:
            interrupted = True
    best = search.best
    if best is None:
        cause = search.outcomes[0].failed if search.outcomes else "interrupted before the first trial ended"
        raise MinerError(f"no trial went well: {cause}", "Does miner ingest take this source, into a lake to try?")
    return _document(wish, search, best, found.units) | {"interrupted": interrupted}


def plan(wish: Wish) -> dict[str, Any]:
    """What `run` would try, and about how long it takes, from a few readings embedded by this process alone."""
    with tuning(wish) as found:
        search, trials = found.search, found.trials
        alone = Trials(
            wish.config.model_copy(update={"executor": "local", "num_gpus": 0.0}), trials.sample, trials.folder, 1
        )
        setting = {"batch_size": 8, "block_size": 8, "num_workers": 1}
        tried = alone(setting, min(_CALIBRATION, found.units))
    if tried.failed:
        raise MinerError(f"no trial would go well: {tried.failed}")
    overhead_s = tried.seconds - tried.units / tried.rate + (_RAY_S if wish.config.executor == "ray" else 0.0)
    workers = search.start.get("num_workers", trials.cpus)
    seconds = search.plan.trials * overhead_s + search.plan.all_units / (tried.rate * workers)
    probes = [dict(setting) for setting in search.space.probes(search.start)[: search.plan.explored]]
    return {**_head(wish, search, found.units), "first": probes, "seconds": round(seconds), "dry_run": True}


def save(document: Mapping[str, Any], stated: Mapping[str, Any], file: Path) -> None:
    """Write the best settings, with what else was stated, as a config of `miner ingest` and `miner embed`."""
    best = document["best"]
    gain = f", {document['gain']:.2f} times what the defaults do" if document["gain"] else ""
    head = [
        f"# miner tune {document['source']}: {best['rate']:.1f} readings/s{gain};",
        f"# what limits: {_phase(document['limit'])}. {len(document['trials'])} trials of {document['grid']} settings.",
    ]
    kept = {key: value for key, value in stated.items() if key not in ("lake", "source")}
    file.write_text("\n".join([*head, as_yaml({**kept, **best["setting"]})]))


def machine_of(config: IngestConfig, scratch: Path | None) -> Machine:
    """What will run the trials. Raises UsageError for a cluster without a folder that all of it shares."""
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    gpu = config.num_gpus > 0
    if config.executor == "local" or address == "local":
        cpus = config.num_cpus or len(os.sched_getaffinity(0))
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _BYTES
        return Machine(cpus, gpu and config.executor == "ray", memory_gb)
    if scratch is None:
        raise UsageError(
            "on a cluster the trials need a folder that all its machines share", "Name it: --scratch FOLDER"
        )
    from jobs.engine import RayExecutor

    return Machine(RayExecutor(address=address).workers, gpu)


def _restart(config: IngestConfig) -> Any:
    """Ends a Ray of one's own, so that the next trial starts one."""

    def restart() -> None:
        if config.executor == "ray":
            from jobs.engine import disconnect

            disconnect()

    return restart


def _line(search: Search, outcome: Outcome) -> str:
    """One trial, for whoever waits."""
    done = f"trial {len(search.outcomes)} of {search.plan.trials}: {shown(outcome.setting)}: "
    if outcome.failed:
        return f"{done}failed: {outcome.failed}"
    best = search.best
    told = f"{outcome.rate:.1f} readings/s, limited by {_phase(outcome.limit)}"
    so_far = f"; best so far {best.rate:.1f}" if best is not None and best is not outcome else "; the best so far"
    return f"{done}{told}{so_far}; about {shown_s(_left_s(search))} left"


def _phase(limit: str) -> str:
    """What limits, in words."""
    return PHASES.get(limit, limit)


def _left_s(search: Search) -> float:
    """Seconds that the trials left will take: as long besides embedding as those before, and as fast as the best."""
    good = [outcome for outcome in search.outcomes if not outcome.failed]
    rate = max((outcome.rate for outcome in good), default=1.0)
    overheads_s = [max(outcome.seconds - outcome.units / outcome.rate, 0.0) for outcome in good]
    trials = max(search.plan.trials - len(search.outcomes), 0)
    units = max(search.plan.all_units - sum(outcome.units for outcome in search.outcomes), 0)
    return trials * sum(overheads_s) / max(len(overheads_s), 1) + units / rate


def shown(setting: Setting) -> str:
    """`batch_size 32, block_size 128`."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


def _head(wish: Wish, search: Search, units: int) -> dict[str, Any]:
    plan: Planned = search.plan
    about = {"source": wish.config.source, "units": units, "grid": search.space.size, "most_trials": plan.trials}
    return {"job": "tune", **about, "units_of_trials": list(plan.units), "finalists": list(plan.finalists)}


def _document(wish: Wish, search: Search, best: Outcome, units: int) -> dict[str, Any]:
    trials = [_trial(outcome) for outcome in search.outcomes]
    head = _head(wish, search, units)
    return {**head, "best": _trial(best), "gain": search.gain, "limit": best.limit, "trials": trials}


def _trial(outcome: Outcome) -> dict[str, Any]:
    busy = {stage: round(share, 3) for stage, share in outcome.busy.items()}
    told = {"rate": round(outcome.rate, 3), "limit": outcome.limit, "busy": busy, "seconds": round(outcome.seconds, 2)}
    return {"setting": dict(outcome.setting), "units": outcome.units, **told, "failed": outcome.failed}
