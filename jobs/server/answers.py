"""One lake kept warm: encoder and vectors in memory, the versions of its tables followed, pictures kept."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import Any

from embeddings.prompts import Prompts
from miner.decode import Recordings
from miner.decode.image import encode_jpeg
from miner.errors import Damaged, NotFound, UsageError
from miner.hits import Hits
from miner.lake import Lake
from miner.masking import masked
from miner.pinned import PinnedStore
from miner.search import Query
from miner.store import one_of
from miner.thumbnail import thumbnail

_FILE = ["uri", "offset", "length", "fileformat", "ego_SE3_sensor"]
_KEPT_BYTES = 64 << 20


class Answers:
    """Answers of one lake, for several threads at once.

    Each comes from the tables as they were at one look; every `every_s` seconds a thread looks again and loads what
    changed, while the lake as it was goes on answering. `trouble` is why the last look failed, empty if it did not.
    """

    def __init__(self, lake: Lake, every_s: float = 1.0) -> None:
        self.trouble = ""
        self._source, self._every_s = lake, every_s
        self._pinned = lake.pinned()
        self._looking, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-lake", daemon=True)
        self._pictures = _Pictures(_KEPT_BYTES)

    @property
    def lake(self) -> Lake:
        """The lake as it was at the last look."""
        return self._pinned

    def start(self) -> None:
        """Load vectors and encoder, so that the first to ask does not wait for them; then follow the lake."""
        try:
            self._pinned.search("a road", 1)
        except (NotFound, UsageError):  # no vectors yet, or those of several encoders: loaded when they are asked for
            pass
        self._thread.start()

    def stop(self) -> None:
        """End the thread that follows the lake."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Follow the lake to the versions its tables have now."""
        with self._looking:
            followed = self._source.pinned(self._pinned)
            replaced = _stamp(followed) != _stamp(self._pinned)
            self._pinned = followed
            if replaced:  # readings may be gone, or be other ones
                self._pictures = _Pictures(_KEPT_BYTES)
            self.trouble = ""

    def search(self, query: Query) -> Hits:
        """As `Lake.search`; asked once more where the files of a version were cleaned away meanwhile."""
        asked = query.to_dict()
        try:
            return self._pinned.search(asked.pop("texts"), **asked)
        except Damaged:
            self.look()
            asked = query.to_dict()
            return self._pinned.search(asked.pop("texts"), **asked)

    def clip(self, clip_id: str) -> dict[str, Any]:
        """All that is known of a clip. Raises NotFound."""
        shown = self._pinned.show(clip_id)
        if shown["kind"] != "clip":
            raise NotFound(f"{clip_id!r} is a {shown['kind']}, not a clip")
        return shown

    def picture(self, sample_data_id: str) -> bytes:
        """A reading as a small JPEG. Raises NotFound for no such reading, BadInput where its file gives no picture."""
        pictures = self._pictures  # before the lake: at worst a new picture is put among the old ones
        kept = pictures.get(sample_data_id)
        if kept is not None:
            return kept
        store = self._pinned.store
        wanted = one_of("sample_data_id", [sample_data_id])
        rows = store.scan("sample_data", _FILE, wanted).to_pylist() if store.exists("sample_data") else []
        if not rows:
            raise NotFound(f"{store.uri} has no reading {sample_data_id!r}")
        with Recordings() as recordings:
            jpeg = encode_jpeg(thumbnail(recordings, rows[0]))
        pictures.keep(sample_data_id, jpeg)
        return jpeg

    @property
    def versions(self) -> dict[str, int]:
        """The version of each table that answers."""
        store = self._pinned.store
        return store.present if isinstance(store, PinnedStore) else {}

    @property
    def prompts(self) -> dict[str, int]:
        """How many texts were kept, were encoded, and in how many batches, of all encoders together."""
        encoders = [each for each in list(self._pinned._encoders.values()) if isinstance(each, Prompts)]
        return {name: sum(getattr(each, name) for each in encoders) for name in ("hits", "misses", "batches")}

    def _follow(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self.look()
            except Exception as error:  # whatever it is, the lake as it was still answers
                told = masked(str(error)).partition("\n")[0]
                if told != self.trouble:
                    sys.stderr.write(f"miner: cannot follow the lake: {told}\n")
                self.trouble = told


def _stamp(lake: Lake) -> object:
    """What the pictures of a lake come from."""
    return lake.store.stamps.get("sample_data") if isinstance(lake.store, PinnedStore) else None


class _Pictures:
    """JPEGs by reading, those asked for last, `limit` bytes together."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._lock = limit, 0, threading.Lock()
        self._jpegs: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        with self._lock:
            if name in self._jpegs:
                self._jpegs.move_to_end(name)
            return self._jpegs.get(name)

    def keep(self, name: str, jpeg: bytes) -> None:
        with self._lock:
            self._held += len(jpeg) - len(self._jpegs.pop(name, b""))
            self._jpegs[name] = jpeg
            while self._held > self._limit:
                self._held -= len(self._jpegs.popitem(last=False)[1])
