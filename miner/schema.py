"""The tables of a lake as Arrow schemas, and `check`, through which every row goes before it is written.

Times are int64 nanoseconds, spans half-open `[start_ns, end_ns)`, lengths metres, angles radians. A pose `dst_SE3_src`
takes points of frame src to frame dst: `p_dst = R(rotation_wxyz) @ p_src + translation`. Boxes in pixels are
`x0, y0, x1, y1` from the top left corner of the full image. Only fields that may be absent are nullable.
"""

from __future__ import annotations

import pyarrow as pa

from miner.errors import SchemaError, UnknownName

SCHEMA_VERSION = 2  # of all declared tables together: the lake says which it has in the metadata of `lineage`
IMPORTED = "imported"  # the version of vectors that came from a file: whoever made them vouches for the encoder
_KEY = {b"lance-schema:unenforced-primary-key": b"true"}


def _f(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _key(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False, metadata=_KEY)


_STRING, _TIME = pa.string(), pa.int64()
POSE = pa.struct([_f("translation", pa.list_(pa.float64(), 3)), _f("rotation_wxyz", pa.list_(pa.float64(), 4))])
REGION = pa.struct([_f(edge, pa.float32()) for edge in ("x0", "y0", "x1", "y1")])
_TABLE_SPAN = pa.struct([_f("table", _STRING), _f("first", pa.int64()), _f("last", pa.int64())])

SCENES = pa.schema(
    [
        _key("scene_id"),
        _f("dataset", _STRING),
        _f("log_id", _STRING),
        _f("name", _STRING),
        _f("start_ns", _TIME),
        _f("end_ns", _TIME),
        pa.field("location", _STRING),
        pa.field("vehicle", _STRING),
        pa.field("split", _STRING),
        pa.field("license", _STRING),
        pa.field("description", _STRING),
        pa.field("reader", _STRING),
    ]
)

SAMPLE_DATA = pa.schema(
    [
        _key("sample_data_id"),
        _f("scene_id", _STRING),
        pa.field("sample_id", _STRING),
        _f("channel", _STRING),
        _f("modality", _STRING),  # camera, lidar or radar
        _f("timestamp_ns", _TIME),
        _f("is_key_frame", pa.bool_()),
        _f("uri", _STRING),
        pa.field("offset", pa.int64()),
        pa.field("length", pa.int64()),
        pa.field("num_bytes", pa.int64()),
        pa.field("etag", _STRING),
        _f("fileformat", _STRING),  # jpg, png, kitti_bin (float32 x,y,z,reflectance), mp4, mcap, ...
        pa.field("ego_SE3_sensor", POSE),
        pa.field("global_SE3_ego", POSE),
        pa.field("intrinsic", pa.list_(pa.float64(), 9)),  # 3 x 3, row by row
        pa.field("distortion", pa.list_(pa.float64())),
    ]
)

ASSETS = pa.schema(
    [
        _key("sample_data_id"),
        _f("scene_id", _STRING),
        _f("modality", _STRING),
        _f("sha256", _STRING),
        _f("num_bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("num_points", pa.int64()),
        pa.field("sharpness", pa.float32()),
        pa.field("exposure", pa.float32()),
        pa.field("phash", pa.int64()),
        _f("flags", pa.list_(_STRING)),
    ]
)

ANNOTATIONS = pa.schema(
    [
        _key("annotation_id"),
        _f("scene_id", _STRING),
        pa.field("sample_id", _STRING),
        pa.field("sample_data_id", _STRING),  # required with bbox_xyxy
        pa.field("track_id", _STRING),
        _f("category", _STRING),
        pa.field("timestamp_ns", _TIME),
        pa.field("ego_SE3_object", POSE),
        pa.field("size_lwh", pa.list_(pa.float64(), 3)),
        pa.field("bbox_xyxy", pa.list_(pa.float64(), 4)),
        pa.field("num_lidar_pts", pa.int32()),
        _f("attributes", _STRING),  # a JSON object
        _f("source", _STRING),
        _f("version", _STRING),
    ]
)

CLIPS = pa.schema(
    [_key("clip_id"), _f("scene_id", _STRING), _f("start_ns", _TIME), _f("end_ns", _TIME), _f("recipe", _STRING)]
)

CLIP_FACTS = pa.schema(
    [
        _key("clip_id"),
        _f("scene_id", _STRING),
        _f("start_ns", _TIME),
        _f("end_ns", _TIME),
        _f("dataset", _STRING),
        _f("log_id", _STRING),
        _f("scene", _STRING),
        pa.field("location", _STRING),
        pa.field("vehicle", _STRING),
        pa.field("split", _STRING),
        pa.field("license", _STRING),
        pa.field("description", _STRING),
        _f("num_frames", pa.int32()),
        _f("num_sweeps", pa.int32()),
        _f("categories", pa.list_(pa.struct([_f("name", _STRING), _f("count", pa.int32())]))),
    ]
)

SCORES = pa.schema(
    [
        _key("clip_id"),
        _key("scorer"),  # rarity, rarity:ENCODER, rarity@REFERENCE, ...
        _f("version", _STRING),  # of the method
        _f("table_version", pa.int64()),  # of the vectors it was computed from
        _f("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
    ]
)

EVENTS = pa.schema(
    [
        _key("clip_id"),
        _f("scene_id", _STRING),
        _f("event_id", _STRING),  # the clip that stands for the event: itself for the one that does
    ]
)

REFERENCES = pa.schema(
    [
        _key("name"),
        _key("encoder"),
        _key("clip_id"),  # of an event
        _f("scene_id", _STRING),
        _f("seconds", pa.float64()),  # of driving that this event stands for
        pa.field("metres", pa.float64()),
        _f("near", pa.float64()),  # cosine distance within which clips are near-duplicates, the same for an encoder
        _f("vector", pa.list_(pa.float32())),  # of unit length
    ]
)

MEMBERS = pa.schema(
    [
        _key("clip_id"),  # of an event
        _f("scene_id", _STRING),
        pa.field("cluster_id", _STRING),  # the smallest cluster it is in; null: in none
    ]
)

CLUSTERS = pa.schema(
    [
        _key("cluster_id"),
        pa.field("parent_id", _STRING),
        _f("name", _STRING),
        _f("events", pa.int64()),
        _f("clips", pa.int64()),
        _f("scenes", pa.int64()),
        _f("seconds", pa.float64()),
        pa.field("metres", pa.float64()),
        _f("rarity", pa.float64()),  # mean of its events
        _f("examples", pa.list_(_STRING)),  # clip ids, the most typical first
    ]
)

CLUSTER_NAMES = pa.schema(
    [
        _key("cluster_id"),
        _f("concept", _STRING),  # what stands out in it
        _f("z", pa.float64()),  # by how many standard deviations of what other clusters have
    ]
)

DUPLICATES = pa.schema(
    [
        _key("clip_id"),
        _f("scene_id", _STRING),
        _f("kept_id", _STRING),  # the clip that stands for it
        _f("kind", _STRING),  # exact, near or semantic
        _f("distance", pa.float64()),  # cosine distance of the two
    ]
)

INDEXES = pa.schema(
    [
        _key("index_id"),
        _f("table", _STRING),
        _f("table_version", pa.int64()),
        _f("encoder", _STRING),
        _f("kind", _STRING),
        _f("metric", _STRING),
        _f("params", _STRING),  # a JSON object
        _f("num_vectors", pa.int64()),
        pa.field("sha256", _STRING),
        pa.field("uri", _STRING),
    ]
)

CONCEPTS = pa.schema(
    [
        _key("name"),
        _key("encoder"),
        _f("encoder_version", _STRING),
        _f("origin", _STRING),  # vocabulary, or lake: the user's own
        _f("prompts", pa.list_(_STRING)),
        _f("opposites", pa.list_(_STRING)),
        _f("labels", pa.list_(_STRING)),
        _f("direction", pa.list_(pa.float32())),  # of unit length: the score of a row is its product with it
        _f("method", _STRING),  # labels or contrast
        _f("slope", pa.float64()),
        _f("offset", pa.float64()),
        _f("positives", pa.int64()),
        _f("negatives", pa.int64()),
        pa.field("brier", pa.float64()),
        _f("table_version", pa.int64()),  # of the vectors it was fitted to
    ]
)

LINEAGE = pa.schema(
    [
        _key("event_id"),
        _f("run_id", _STRING),
        _f("job", _STRING),
        _f("status", _STRING),  # complete, or interrupted: rebuilt from the transactions of a run that died
        _f("event_time_ns", _TIME),
        _f("inputs", pa.list_(_TABLE_SPAN)),
        _f("outputs", pa.list_(_TABLE_SPAN)),
        _f("config", _STRING),
        _f("code_version", _STRING),
        pa.field("seed", pa.int64()),
        _f("cost", _STRING),  # a JSON object: units, rows, seconds
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},  # of the lake: every lake has this table, and made it first
)

QUARANTINE = pa.schema(
    [
        _key("stage"),
        _key("key"),
        _f("scene_id", _STRING),
        _f("reason", _STRING),
        _f("detail", _STRING),
        _f("attempts", pa.int32()),
        _f("run_id", _STRING),
        pa.field("reader", _STRING),  # whose data it is, where the unit is a scene of a source
        pa.field("time_ns", _TIME),
    ]
)

DIGESTS = pa.schema(
    [
        _key("file"),  # path below the lake, e.g. scenes.lance/data/....lance
        _f("table", _STRING),
        _f("num_bytes", pa.int64()),
        _f("sha256", _STRING),
    ]
)

SELECTIONS = pa.schema(
    [
        _key("version_id"),  # NAME@N of `versions`
        _key("clip_id"),
        _f("rank", pa.int32()),  # from 1
        _f("strategy", _STRING),
        _f("reason", _STRING),
        _f("gain", pa.float64()),  # what the clip added, in the strategy's own measure
    ]
)

VERSIONS = pa.schema(
    [
        _key("version_id"),  # NAME@N; the row comes last: a version without one is being made
        _f("name", _STRING),
        _f("number", pa.int32()),
        pa.field("parent", _STRING),
        _f("tables", pa.list_(pa.struct([_f("table", _STRING), _f("version", pa.int64())]))),  # pinned, and tagged so
        _f("num_clips", pa.int64()),
        _f("spec", _STRING),  # a JSON object
        _f("digest", _STRING),  # of the spec
        _f("report", _STRING),  # a JSON object: cells, gap, bound
        pa.field("seed", pa.int64()),
        pa.field("note", _STRING),
        _f("run_id", _STRING),
        _f("code_version", _STRING),
        _f("created_ns", _TIME),
    ]
)

LEASES = pa.schema([_key("table"), _f("run_id", _STRING), _f("owner", _STRING), _f("heartbeat_ns", _TIME)])

TABLES: dict[str, pa.Schema] = {
    "scenes": SCENES,
    "sample_data": SAMPLE_DATA,
    "assets": ASSETS,
    "annotations": ANNOTATIONS,
    "clips": CLIPS,
    "clip_facts": CLIP_FACTS,
    "scores": SCORES,
    "events": EVENTS,
    "references": REFERENCES,
    "members": MEMBERS,
    "clusters": CLUSTERS,
    "cluster_names": CLUSTER_NAMES,
    "duplicates": DUPLICATES,
    "indexes": INDEXES,
    "concepts": CONCEPTS,
    "selections": SELECTIONS,
    "versions": VERSIONS,
    "lineage": LINEAGE,
    "quarantine": QUARANTINE,
    "leases": LEASES,
    "digests": DIGESTS,
}


def embeddings_schema(
    encoder: str, version: str, dim: int, views: str = "whole", modality: str = "camera"
) -> pa.Schema:
    """Schema of `embeddings/<encoder>`: one vector a row, unit length, never null.

    `part` numbers the rows of one reading from 0 (the whole frame, its tiles), so counting `part = 0` counts readings.
    The schema's metadata holds encoder, version, dim, modality and views (how frames were cut). `region` is the part
    of the frame the vector saw, as shares of width and height; null is the whole frame.
    """
    fields = [
        _key("embedding_id"),
        _f("sample_data_id", _STRING),
        _f("scene_id", _STRING),
        _f("channel", _STRING),
        _f("timestamp_ns", _TIME),
        _f("part", pa.int16()),
        pa.field("region", REGION),
        _f("vector", pa.list_(pa.float32(), dim)),
    ]
    metadata = {"encoder": encoder, "version": version, "dim": str(dim), "modality": modality, "views": views}
    return pa.schema(fields, metadata=metadata)


def schema_of(table: str) -> pa.Schema:
    """The declared schema of a fixed table (embeddings tables get theirs from the encoder)."""
    if table not in TABLES:
        raise UnknownName.of("table", table, TABLES)
    return TABLES[table]


def version_of(lineage: pa.Schema) -> int:
    """The schema version of the lake with this `lineage` table; the first one was not written down."""
    return int((lineage.metadata or {}).get(b"schema_version", b"1"))


def key_of(schema: pa.Schema) -> list[str]:
    """The names of the key columns."""
    return [field.name for field in schema if field.metadata and field.metadata.get(next(iter(_KEY))) == b"true"]


def differences(found: pa.Schema, wanted: pa.Schema) -> str:
    """What of `found` is not as in `wanted`: `column reader (string) is missing, version is 1, not 2`."""
    there, here = ({field.name: field for field in schema} for schema in (found, wanted))
    said = [f"column {name} ({here[name].type}) is missing" for name in here if name not in there]
    said += [f"column {name} ({there[name].type}) is not known here" for name in there if name not in here]
    for name in (name for name in here if name in there and not there[name].equals(here[name], check_metadata=True)):
        said.append(f"column {name} is {_declared(there[name])}, not {_declared(here[name])}")
    left, right = ({k.decode(): v.decode() for k, v in (schema.metadata or {}).items()} for schema in (found, wanted))
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    said += [f"{key} is {left.get(key)}, not {right.get(key)}" for key in keys]
    return ", ".join(said) or "the columns are in another order"


def _declared(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ' not null'}{' (key)' if field.metadata else ''}"


def check(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns, order and types of `schema`; a missing nullable column is filled with nulls.

    Raises SchemaError naming the column for a missing or unknown one, a wrong type, or a null that may not be.
    """
    if unknown := set(table.column_names) - set(schema.names):
        raise SchemaError(f"unknown columns: {', '.join(sorted(unknown))}", f"Declared: {', '.join(schema.names)}")
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if not field.nullable and len(table):
                raise SchemaError(f"column {field.name!r} is missing")
            columns.append(pa.nulls(len(table), field.type))
            continue
        column = table[field.name]
        if column.null_count and not field.nullable:
            raise SchemaError(f"column {field.name!r} has {column.null_count} nulls but may have none")
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaError(f"column {field.name!r} is {column.type}, declared {field.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)
