"""The log of a run, `<lake>/_logs/<run_id>.log`: full traces, of which messages and quarantine give one line."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from miner.disk import disk_errors
from miner.errors import MinerError
from miner.lineage import Run
from miner.masking import masked
from miner.object_store import filesystem, is_remote, told
from miner.store import Store

FOLDER = "_logs"
_MAX_TRACES = 100
_MAX_LINE = 400


@dataclass
class RunLog:
    """The traces of one run. The file is there once there is one."""

    store: Store
    run_id: str
    _entries: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Path or URI of the file."""
        return f"{self.store.uri}/{FOLDER}/{self.run_id}.log"

    def keep(self, what: str, trace: str) -> str:
        """Add a trace, if there are not too many already; gives a sentence that says where."""
        if len(self._entries) < _MAX_TRACES:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._entries.append(f"{stamp} {what}\n{masked(trace.rstrip(), self.store.storage_options)}\n")
            try:
                self._write("\n".join(self._entries))
            except (OSError, MinerError) as error:
                return f"The trace could not be kept in {self.path}: {one_line(error)}"
        return f"Full trace: {self.path}"

    def _write(self, text: str) -> None:
        """Anew each time: object stores do not append."""
        if not is_remote(self.path):
            Path(self.path).parent.mkdir(exist_ok=True)
            Path(self.path).write_text(text)
            return
        options = self.store.storage_options
        with told(self.path, options):
            client, path = filesystem(self.path, options)
            with client.open_output_stream(path) as file:
                file.write(text.encode())


@contextmanager
def logged(store: Store, run: Run, what: str) -> Iterator[RunLog]:
    """The log of a run. An unexpected exception of the block goes into it and comes out as a MinerError of one line."""
    log = RunLog(store, run.run_id)
    try:
        with disk_errors(store.uri), told(store.uri, store.storage_options):
            yield log
    except MinerError:
        raise
    except Exception as error:
        where = log.keep(what, "".join(traceback.format_exception(error)))
        raise MinerError(f"{what}: {one_line(error, store.storage_options)}", where) from error


def one_line(error: BaseException, options: Mapping[str, str] | None = None) -> str:
    """Kind and message of an exception, without secrets, and what it is about: `/data/a.bin: ValueError: ...`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    about = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    return masked(f"{about}{type(error).__name__}: {lines[0] if lines else 'no message'}", options)[:_MAX_LINE]
