"""What changes a table: Lance transactions with the stamp of a run, committed so that a stalled run cannot double rows.

Each function takes a table as its `dataset` and gives the new version, or how many rows it changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.commit import CommitConflictError
from lance.fragment import FragmentMetadata
from lance.schema import LanceSchema

from miner.errors import Conflict
from miner.lance_errors import is_gone
from miner.schema import check, key_of

RUN = "miner.run_id"
HARMLESS = {
    "Rewrite",
    "CreateIndex",
    "BaseOperation",
}  # compaction, indexes, and what Lance has no name for (reserving ids)
_AGAIN = "Nothing was written twice. Run the same command again."
Options = Mapping[str, str] | None


@dataclass(frozen=True)
class Commit:
    """One version of a table and what wrote it: `operation` is Lance's (Append, Update, Rewrite, ...)."""

    version: int
    operation: str
    properties: Mapping[str, str]
    restored: int = 0  # by a Restore: the version whose rows it has


@dataclass(frozen=True)
class Target:
    """Where a transaction is committed: the table's name for messages, its place, and the store's options."""

    table: str
    path: str
    storage_options: Options = None

    def commit(self, operation: Any, since: int, properties: Mapping[str, str]) -> int:
        """A new version after `since`. Raises Conflict where another run came first and this cannot follow."""
        return self.commit_transaction(lance.Transaction(since, operation, transaction_properties=dict(properties)))

    def commit_transaction(self, transaction: lance.Transaction) -> int:
        """The same for a transaction that Lance made."""
        try:
            return int(lance.LanceDataset.commit(self.path, transaction, **as_options(self.storage_options)).version)
        except CommitConflictError as error:
            told = f"table {self.table!r} was changed or taken over by another run while this one was stalled"
            raise Conflict(told, _AGAIN) from error
        except OSError as error:
            if not is_gone(error):
                raise
            raise compacted(self.table) from error

    def create(self, schema: pa.Schema) -> None:
        """The empty table, as version 1 or not at all.

        `write_dataset(mode="create")` looks first and writes later: of two at once both succeed, and the later one
        empties what was appended in between. A commit that starts from no version and may not retry does neither.
        """
        operation = lance.LanceOperation.Overwrite(schema, [])
        only_first = {
            "read_version": 0,
            "max_retries": 0,
            "enable_stable_row_ids": True,
            "enable_v2_manifest_paths": True,
        }
        lance.LanceDataset.commit(self.path, operation, **only_first, **as_options(self.storage_options))

    def append(self, fragments: Sequence[FragmentMetadata], since: int, properties: Mapping[str, str]) -> int:
        """Rows that workers wrote."""
        return self.commit(lance.LanceOperation.Append(list(fragments)), since, properties)

    def restore(self, version: int, since: int, properties: Mapping[str, str]) -> int:
        """The rows of an older version."""
        return self.commit(lance.LanceOperation.Restore(version), since, properties)

    def remove(self, dataset: lance.LanceDataset, filter: str, properties: Mapping[str, str]) -> int:
        """One try to delete rows: as Lance's own delete, which takes no stamp."""
        addresses = dataset.scanner(columns=[], filter=filter, with_row_address=True).to_table()["_rowaddr"]
        if not len(addresses):
            return 0
        touched = pc.unique(pc.shift_right(addresses, pa.scalar(32, pa.uint64()))).to_pylist()
        rest = {number: dataset.get_fragment(number).delete(filter) for number in touched}
        emptied = [number for number, fragment in rest.items() if fragment is None]
        kept = [fragment for fragment in rest.values() if fragment is not None]
        operation = lance.LanceOperation.Delete(kept, emptied, filter)
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=dict(properties))
        lance.LanceDataset.commit(self.path, transaction, **as_options(self.storage_options))
        return len(addresses)

    def upsert(
        self,
        dataset: lance.LanceDataset,
        rows: pa.Table,
        condition: str | None,
        insert: bool,
        properties: Mapping[str, str],
    ) -> int:
        """One try to insert rows (with `insert`) and update those that are there and for which `condition` holds."""
        merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False).conflict_retries(20)
        merge = merge.when_matched_update_all(condition)
        if insert:
            merge = merge.when_not_matched_insert_all()
        checked = check(rows, dataset.schema)
        if not properties:
            done = merge.execute(checked)
        else:
            transaction, done = merge.execute_uncommitted(checked)
            transaction.transaction_properties = dict(properties)
            lance.LanceDataset.commit(self.path, transaction, **as_options(self.storage_options))
        return int(done["num_inserted_rows"] + done["num_updated_rows"])

    def add_columns(self, dataset: lance.LanceDataset, values: pa.Table, properties: Mapping[str, str]) -> int:
        """New columns; `values` has `_rowid` and the columns."""
        ids, new = values["_rowid"].combine_chunks(), values.drop_columns("_rowid").combine_chunks()

        def of(rows: pa.RecordBatch) -> pa.RecordBatch:
            [found] = new.take(pc.index_in(rows["_rowid"], ids)).to_batches()
            return found

        schema = LanceSchema.from_pyarrow(pa.schema([*dataset.schema, *new.schema], dataset.schema.metadata))
        fragments = []
        for fragment in dataset.get_fragments():
            changed, schema = fragment.merge_columns(of, columns=["_rowid"])
            fragments.append(changed)
        return self.commit(lance.LanceOperation.Merge(fragments, schema), dataset.version, properties)

    def describe_schema(self, metadata: Mapping[str, str], since: int, properties: Mapping[str, str]) -> int:
        """Metadata of the schema."""
        updates = lance.LanceOperation.UpdateMap(dict(metadata))
        operation = lance.LanceOperation.UpdateConfig(schema_metadata_updates=updates)
        return self.commit(operation, since, properties)


def replacement(dataset: lance.LanceDataset, rows: pa.Table, owned: str, properties: Mapping[str, str]) -> Any:
    """The transaction that makes `rows` the only ones among those matching `owned`: update, insert, delete by key."""
    merge = dataset.merge_insert(key_of(dataset.schema)).use_index(False)
    merge = merge.when_matched_update_all().when_not_matched_insert_all().when_not_matched_by_source_delete(owned)
    transaction, _ = merge.execute_uncommitted(check(rows, dataset.schema))
    transaction.transaction_properties = dict(properties)
    return transaction


def commit_at(dataset: lance.LanceDataset, version: int) -> Commit | None:
    """What made one version of a table; None where that is not known any more."""
    try:
        transaction = dataset.read_transaction(version)
    except TypeError:  # Lance cannot show one kind of transaction: a compaction that took indexes along
        return Commit(version, "Rewrite", {})
    except (OSError, ValueError) as error:
        if not is_gone(error):
            raise
        return None
    if transaction is None:
        return None
    operation, stamp = transaction.operation, dict(transaction.transaction_properties or {})
    return Commit(version, type(operation).__name__, stamp, getattr(operation, "version", 0))


def compacted(table: str) -> Conflict:
    """What to tell a run whose files a compaction took away while it was stalled."""
    return Conflict(f"table {table!r} was compacted by another run while this one was stalled", _AGAIN)


def changed(table: str, version: int) -> Conflict:
    """What to tell a run whose table somebody else changed."""
    return Conflict(f"table {table!r} was changed by another run (version {version}) while this one held it", _AGAIN)


def as_options(storage_options: Options) -> dict[str, Any]:
    """Lance's argument for the options of a store."""
    return {"storage_options": dict(storage_options)} if storage_options else {}
