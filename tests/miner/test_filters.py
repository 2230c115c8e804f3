"""The filter language: what passes, what is refused and where, and that it agrees with SQL's three-valued logic."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from miner.errors import UsageError
from miner.query.columns import COLUMNS, CONDITION, TEXT
from miner.query.filters import MAX_NESTING, MAX_TERMS, Filter, parse_filter
from miner.schema import CLIP_FACTS

LOCATIONS = ["boston", "it's", "", None, "singapore", "100%"]
CATEGORIES: list[list[dict[str, Any]]] = [
    [{"name": "car", "count": 3}, {"name": "weather: rain", "count": 1}],
    [],
    [{"name": "car", "count": 1}],
]


def facts(rows: int = 24) -> pa.Table:
    """Clips with every combination of a few values, nulls among them, and a `channel` each."""
    columns: dict[str, list[Any]] = {
        name: [f"{name}-{i % 5}" for i in range(rows)]
        for name in ("clip_id", "scene_id", "dataset", "log_id", "scene", "split", "license", "description", "vehicle")
    }
    columns |= {
        "location": [LOCATIONS[i % len(LOCATIONS)] for i in range(rows)],
        "split": [None if i % 4 == 0 else f"split-{i % 3}" for i in range(rows)],
        "start_ns": [1_532_402_927_612_460_000 + i for i in range(rows)],
        "end_ns": [1_532_402_937_612_460_000 + i for i in range(rows)],
        "num_frames": list(range(rows)),
        "num_sweeps": [i % 2 for i in range(rows)],
        "categories": [CATEGORIES[i % 3] for i in range(rows)],
    }
    return pa.table({name: columns[name] for name in CLIP_FACTS.names}, schema=CLIP_FACTS)


FACTS = facts()


def passing(text: str, table: pa.Table = FACTS) -> list[int]:
    """Rows of `table` that pass."""
    parsed = parse_filter(text)
    return np.flatnonzero(parsed.mask(parsed.clip_columns(table))).tolist()


def rows_where(test: Any) -> list[int]:
    return [i for i, row in enumerate(FACTS.to_pylist()) if test(row)]


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("location = 'boston'", lambda r: r["location"] == "boston"),
        ("LOCATION = 'it''s'", lambda r: r["location"] == "it's"),
        ("location <> 'boston'", lambda r: r["location"] not in ("boston", None)),
        ("location is null", lambda r: r["location"] is None),
        ("not location is not null", lambda r: r["location"] is None),
        ("location like '%o%'", lambda r: "o" in (r["location"] or "")),
        ("location not ilike 'BO%'", lambda r: r["location"] is not None and not r["location"].startswith("bo")),
        ("not location like 'bo%'", lambda r: r["location"] is not None and not r["location"].startswith("bo")),
        ("location in ('boston', '')", lambda r: r["location"] in ("boston", "")),
        ("location not in ('boston', '')", lambda r: r["location"] not in ("boston", "", None)),
        ("num_frames between 3 and 5", lambda r: 3 <= r["num_frames"] <= 5),
        ("num_frames > 2.5 and num_frames < 1e1", lambda r: 2.5 < r["num_frames"] < 10),
        ("num_frames > -(-20)", lambda r: r["num_frames"] > 20),
        ("num_frames < num_sweeps", lambda r: r["num_frames"] < r["num_sweeps"]),
        ("start_ns = 1532402927612460003", lambda r: r["num_frames"] == 3),
        ("start_ns <= 1.532402927612460003e18", lambda r: r["start_ns"] <= int(1.532402927612460003e18)),
        ("count('car') >= 2", lambda r: r["num_frames"] % 3 == 0),
        ("count('car') = 0 or count('weather: rain') = 1", lambda r: r["num_frames"] % 3 in (0, 1)),
        ("count('no such') > 0", lambda r: False),
        ("num_frames = 1 or num_frames = 2 and num_sweeps = 1", lambda r: r["num_frames"] == 1),
        ("(num_frames = 1 or num_frames = 2) and num_sweeps = 0", lambda r: r["num_frames"] == 2),
        ("\"scene\" = 'scene-1'", lambda r: r["scene"] == "scene-1"),
        ("scene =\n'scene-1'", lambda r: r["scene"] == "scene-1"),
        ("(location = 'boston') is null", lambda r: r["location"] is None),
        ("location = ''' OR 1=1 --'", lambda r: False),
        ("location = 'боль 🚲 \u202e'", lambda r: False),
    ],
)
def test_passes_exactly(text: str, test: Any) -> None:
    assert passing(text) == rows_where(test)


@pytest.mark.parametrize(
    ("text", "column", "word"),
    [
        ("", None, "empty"),
        ("  \n", None, "empty"),
        ("locaton = 'x'", 1, "location"),
        ("dataset = 'x' and locaton = 'x'", 19, "location"),
        ("location = 'x' OR 1=1", 19, "column on one side"),
        ("location = 'x'; DROP TABLE clips", 15, "';'"),
        ("scene = 3", 1, "text"),
        ("timestamp_ns = 'x'", 1, "a number"),
        ("num_frames in (1, 'x')", 1, "compare"),
        ("location in (select 1)", 14, "select"),
        ("lower(location) = 'x'", 1, "function"),
        ("count(location) = 1", 1, "category"),
        ("count('car')", 1, "condition"),
        ("count('car', 'bus') > 1", 1, "not allowed"),
        ("location", 1, "condition"),
        ("not location", 5, "condition"),
        ("location = null", 1, "not allowed"),
        ("location like scene", 15, "quotes"),
        ("location like '%' escape 'x'", 19, "escape"),
        ("location between symmetric 'a' and 'b'", 18, "symmetric"),
        ("location like any ('a')", 15, "any"),
        ("num_frames = 1 -- all", 14, "comments"),
        ("num_frames = 1 /* all */", 14, "comments"),
        ("num_frames::text = 'x'", 11, "::"),
        ("num_frames + 1 = 2", 12, "'+'"),
        ("num_frames = -num_sweeps", 15, "minus"),
        ("case when location = 'x' then 1 end = 1", 1, "case"),
        ("exists (location)", 1, "exists"),
        ("location = 'unclosed", 12, "never closed"),
        ("location = 'x' and", None, "sense"),
        ("(location = 'x'", None, "sense"),
        ("location = 'x')", 15, "sense"),
        ("location = 'x' 'y'", 12, "not allowed"),
        ('location = "x"', 12, "single quotes"),
        ("location = $1", 12, "not allowed"),
        ("location = e'x'", 12, "not allowed"),
        ("location in ()", 1, "list"),
        ("location in scene", 1, "field"),
        ("location in (scene)", 1, "list"),
        ("facts.location = 'x'", 1, "unknown column"),
        ("location.scene = 'x'", 9, "not allowed"),
        ("location = 'x' = 'y'", 1, "compare"),
        ("num_frames < 99999999999999999999", 14, "too large"),
        ("num_frames < 1e999", 14, "too large"),
        ("num_frames < " + "9" * 5000, 14, "too large"),
        ("location = 'a\0b'", 14, "U+0000"),
        ("location = '\ud800'", 13, "U+D800"),
        ("categories is null", 1, "unknown column"),
        ("location is 'x'", 1, "null"),
        ("assets.sharpnes > 1", 8, "assets.sharpness"),
        ("location = 'x' and assets.", 26, "unknown column 'assets.'"),
        ("clip_facts.location = 'x'", 1, "unknown column"),
        ("scenes = 'x'", 1, "unknown column"),
        ("scenes.name.name = 'x'", 12, "not allowed"),
        ("is_key_frame = 1", 1, "a condition"),
        ("score('a', 'b') > 1", 1, "one scorer"),
        ("score(location) > 1", 1, "one scorer"),
        ("scored('a') > 1", 1, "function"),
        ("length(location) > 1", 1, "not allowed"),
        ("1 is null", 1, "null"),
        ("location = 'x' or\nlocaton = 'y'", 19, "location"),
    ],
)
def test_refuses_and_says_where(text: str, column: int | None, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_filter(text)
    message = str(caught.value)
    assert word in message
    if column is not None:
        assert f"column {column}:" in message
        shown, caret = message.splitlines()[1:3]
        assert caret.strip() == "^" and len(caret) <= len(shown) + 1
        if text[column - 1].isprintable():
            assert shown[len(caret) - 1] == text[column - 1]


def test_sizes_are_limited_before_the_parser() -> None:
    def chain(terms: int) -> str:
        return " or ".join(["num_frames = 1"] * terms)

    assert passing(chain(MAX_TERMS)) == [1]
    assert passing("(" * MAX_NESTING + "num_frames = 1" + ")" * MAX_NESTING) == [1]
    for text in (
        chain(MAX_TERMS + 1),
        chain(3000),
        "(" * 5000 + "num_frames = 1" + ")" * 5000,
        "not " * 5000 + "num_frames = 1",
        "num_frames = " + "- " * 5000 + "1",
        "not (" * 5000 + "num_frames = 1" + ")" * 5000,
        "x" * 4096,
        "location = '" + "x" * 200_000 + "'",
    ):
        with pytest.raises(UsageError):
            parse_filter(text)


def test_a_long_list_of_ids_is_fine() -> None:
    ids = ", ".join(f"'clip-{i:032d}'" for i in range(2000))
    assert passing(f"clip_id in ({ids})") == []
    assert passing(f"clip_id in ({ids}, 'clip_id-1')") == rows_where(lambda r: r["clip_id"] == "clip_id-1")


def test_no_rows_and_no_facts() -> None:
    assert passing("count('car') > 0 and location = 'x'", facts(0)) == []
    table = pa.table({"channel": ["CAM_FRONT", "LIDAR_TOP"], "timestamp_ns": [5, 6]})
    assert parse_filter("channel = 'CAM_FRONT' and timestamp_ns < 6").mask(table).tolist() == [True, False]


def test_values_never_enter_the_sql() -> None:
    parsed = parse_filter("location = 'x'' OR 1=1; --' and num_frames = 7 and count('a''b') > 0")
    assert parsed.values == ("x' OR 1=1; --", 7, 0) and parsed.categories == ("a'b",)
    assert re.fullmatch(r"[\w\s\"$()=>]+", parsed.sql)


# -- laws --------------------------------------------------------------------------------------------------------------

NUMBERS, TEXTS = ["num_frames", "num_sweeps"], ["location", "split", "scene"]


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> tuple[str, Any]:
    """A random filter, and the same as a Python function row -> True, False or None."""
    if depth and draw(st.booleans()):
        text, test = draw(conditions(depth=depth - 1))
        kind = draw(st.sampled_from(["not", "and", "or", "null"]))
        if kind == "not":
            return f"not ({text})", lambda r: None if test(r) is None else not test(r)
        if kind == "null":
            return f"({text}) is null", lambda r: test(r) is None
        other_text, other = draw(conditions(depth=depth - 1))
        return f"({text}) {kind} ({other_text})", _both(kind, test, other)
    if draw(st.booleans()):
        column, value = draw(st.sampled_from(NUMBERS)), draw(st.integers(-2, 26))
        sign, compare = draw(st.sampled_from([("=", "__eq__"), ("<", "__lt__"), (">=", "__ge__"), ("<>", "__ne__")]))
        return f"{column} {sign} {value}", lambda r: getattr(r[column], compare)(value)
    column = draw(st.sampled_from(TEXTS))
    texts = draw(st.lists(st.sampled_from(["boston", "it's", "", "split-1", "scene-2"]), min_size=1, max_size=3))
    listed = ", ".join("'" + t.replace("'", "''") + "'" for t in texts)
    return f"{column} in ({listed})", lambda r: None if r[column] is None else r[column] in texts


def _both(kind: str, left: Any, right: Any) -> Any:
    decisive = kind == "or"

    def test(row: dict[str, Any]) -> bool | None:
        values = (left(row), right(row))
        return decisive if decisive in values else None if None in values else not decisive

    return test


@settings(max_examples=40, deadline=None)
@given(conditions())
def test_agrees_with_three_valued_logic(condition: tuple[str, Any]) -> None:
    text, test = condition
    assert passing(text) == rows_where(lambda r: test(r) is True)


@settings(max_examples=15, deadline=None)
@given(conditions())
def test_true_false_and_null_partition_the_rows(condition: tuple[str, Any]) -> None:
    text, _ = condition
    parts = [passing(form.format(text)) for form in ("{}", "not ({})", "({}) is null")]
    assert sorted(row for part in parts for row in part) == list(range(len(FACTS)))


WORDS = [
    *COLUMNS,
    "'x'",
    "'",
    '"',
    "1",
    "-",
    "(",
    ")",
    ",",
    "=",
    "<",
    "and",
    "or",
    "not",
    "in",
    "is",
    "null",
    "like",
    "ilike",
]
WORDS += [
    "between",
    "count",
    "count('car')",
    "score('rarity')",
    "assets",
    ";",
    "--",
    "/*",
    "select",
    "from",
    "case",
    "::",
    "||",
    "$$",
    "*",
    ".",
    "🚲",
    "\n",
    "1e5",
]


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)))
@example("location = 'x' OR 1=1; DROP TABLE clips; --")
@example("'' OR ''=''")
def test_any_text_is_refused_or_a_filter(text: str) -> None:
    try:
        parsed = parse_filter(text)
    except UsageError as error:
        assert str(error)
        return
    assert isinstance(parsed, Filter) and set(parsed.columns) <= set(COLUMNS)
    table = parsed.clip_columns(FACTS)
    like = {TEXT: FACTS["scene"], CONDITION: pa.array([True] * len(FACTS))}
    for name in set(parsed.columns) - set(table.column_names):
        table = table.append_column(name, like.get(COLUMNS[name], FACTS["num_frames"]))
    for number in range(len(parsed.scores)):
        table = table.append_column(f"score_{number}", FACTS["num_frames"])
    assert parsed.mask(table).shape == (len(FACTS),)
