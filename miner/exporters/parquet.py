"""Parquet: `clips`, `readings` and `annotations`, a folder of parts each, joined by clip_id. Recordings stay put."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from miner.exporters import Part, Written, numbered
from miner.exporters.content import Content, Options


class ParquetExporter:
    """Any Parquet reader takes a folder as one table: `pandas.read_parquet("DEST/clips")`."""

    name: ClassVar[str] = "parquet"
    part_clips: ClassVar[int] = 10_000

    def parts(self, clips: int, options: Options) -> Sequence[Part]:
        size = options.part_clips or self.part_clips
        kinds = ("clips", "readings", "annotations")
        return [part for kind in kinds for part in numbered(clips, size, f"{kind}/part-{{:05d}}.parquet")]

    def write(self, part: Part, content: Content, file: BinaryIO) -> Written:
        rows = self._rows(part, content)
        fields = [pa.field(each.name, _listed(each.type)) for each in rows.schema]
        pq.write_table(rows.cast(pa.schema(fields)), file, compression="zstd")
        return Written(len(rows))

    def _rows(self, part: Part, content: Content) -> pa.Table:
        if part.path.startswith("clips/"):
            return content.clips.slice(part.first, part.last - part.first)
        return (content.readings if part.path.startswith("readings/") else content.annotations)(part.first, part.last)


def _listed(kind: pa.DataType) -> pa.DataType:
    """The type with lists of any length: Arrow writes null lists of fixed length to Parquet, and cannot read them."""
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_listed(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _listed(each.type)) for each in kind])
    return kind
