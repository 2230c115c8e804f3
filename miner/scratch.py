"""What the parts of a divided reduction hand on: arrays in files of the lake, `<lake>/_work/<table>/<use>/<name>.npz`.

Any worker can reach them, and nothing reads them but the reduction that is at it. They are of one moment of the tables,
whatever is written meanwhile. Whoever holds the lease of the table removes them when it is done, or those of a run that
died when it begins; a run whose lease was taken over finds its files gone, and fails.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pyarrow import fs

from miner.errors import Conflict
from miner.object_store import filesystem, is_missing, is_remote, local_path, told
from miner.store import Store

FOLDER = "_work"


@dataclass(frozen=True)
class Scratch:
    """A folder of arrays. Small and picklable."""

    uri: str
    options: Mapping[str, str] | None = field(default=None, repr=False)

    @classmethod
    def fresh(cls, store: Store, table: str) -> Scratch:
        """A new folder for a reduction of a table, by the holder of its lease: what others left is removed."""
        sweep(store, table)
        return cls(f"{_home(store, table)}/{uuid.uuid4().hex[:12]}", store.storage_options)

    def write(self, name: str, **arrays: NDArray[Any]) -> None:
        """Keep arrays under a name, whole or not at all; again for a part that is done again."""
        whole = io.BytesIO()
        np.savez(whole, **cast(Any, arrays))
        with told(self.uri, self.options):
            client, path = filesystem(self.uri, self.options)
            here, beside = f"{path}/{name}.npz", f"{path}/{name}.{uuid.uuid4().hex[:12]}.part"
            if not is_remote(self.uri):
                client.create_dir(path)
            with client.open_output_stream(here if is_remote(self.uri) else beside) as file:
                file.write(whole.getbuffer())
            if not is_remote(self.uri):  # an object store shows what is whole alone
                client.move(beside, here)

    def read(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of a name. Raises Conflict where another run took over."""
        with told(self.uri, self.options):
            client, path = filesystem(self.uri, self.options)
            try:
                with client.open_input_file(f"{path}/{name}.npz") as file:
                    whole = io.BytesIO(file.read())
            except OSError as error:
                if not is_missing(error):
                    raise
                raise Conflict(f"{self.uri}/{name}.npz is gone: another run took over", "Run it again.") from error
        with np.load(whole, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}


def sweep(store: Store, table: str) -> None:
    """Remove what reductions of a table left. Only for the holder of its lease."""
    with told(store.uri, store.storage_options):
        client, path = filesystem(_home(store, table), store.storage_options)
        if client.get_file_info(path).type == fs.FileType.Directory:
            client.delete_dir(path)


def _home(store: Store, table: str) -> str:
    uri = store.uri if is_remote(store.uri) else Path(local_path(store.uri)).absolute()
    return f"{uri}/{FOLDER}/{table}"
