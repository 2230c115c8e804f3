"""Random filters: some of the language, some nearly, some of no language at all; and what must be true of each."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa

from miner.errors import UsageError
from miner.query.columns import COLUMNS, CONDITION, TEXT
from miner.query.filters import MAX_CHARACTERS, Filter, parse_filter
from miner.schema import CLIP_FACTS

_ROWS = 12
_VALUES = ["boston", "it's", "", "100%", "x' OR 1=1; --", "\u202eevil", "夜", "e\u0301", "\n"]
_ALLOWED = np.arange(_ROWS) % 3 == 0  # whom a tenant or region limit lets see
HOSTILE = [
    "location = 'x' OR 1=1",
    "'' OR ''=''",
    "1=1",
    "true",
    "location = 'x'; DROP TABLE clips",
    "location = 'x' UNION SELECT * FROM facts",
    "scene = (SELECT version())",
    "read_text('/etc/passwd') = 'x'",
    "getenv('HOME') like '%'",
    "location = 'a' -- ' and split = 'b'",
    "$$x$$ = location",
    "location = E'\\x41'",
    "facts = facts",
    "rowid >= 0",
    '"row" >= 0',
    "count_0 > 0",
    "$1 = $1",
    "COLUMNS(*) is null",
    "location glob '*'",
    "location similar to '.*'",
    "location like '%' escape '%'",
    "num_frames between 1 and 2 and 3",
    "not not not num_frames = 1",
    "- - - 1 < num_frames",
    "num_frames in (1, 2,)",
    "(num_frames, num_sweeps) = (1, 2)",
    "count('car') in (count('bus'), 1)",
    "location is not distinct from null",
    "num_frames = 1e-400",
    "num_frames = 0x10",
    "num_frames = 1_000",
    "num_frames = .5",
    "num_frames = 1.",
    "num_frames = 9223372036854775807",
    "num_frames = -9223372036854775808",
    "num_frames = \u0661",
    "location collate nocase = 'X'",
    "[1,2][1] = num_frames",
    "{'a': 1}.a = num_frames",
    "num_frames = 1 limit 1",
    "num_frames = 1 order by 1",
    "interval 1 day = num_frames",
    "location = 'x' and\x00 1=1",
]
_WORDS = [
    *COLUMNS,
    *"and or not in is null like ilike between count select from case when then end exists any all".split(),
]
_WORDS += [*"( ) , = <> != < <= > >= - ; -- /* */ :: || $$ * . + % ' \" \\ ? $1 @ # [ ] { } \n \t".split(" ")]
_WORDS += [
    "'x'",
    "'it''s'",
    "1",
    "1.5",
    "1e5",
    "99999999999999999999",
    "count('car')",
    "score('rarity')",
    "assets",
    "scenes",
    "🚲",
    "\u202e",
    "\u0000",
    "\xa0",
    "\ufeff",
]


def facts() -> pa.Table:
    """Rows with every column a filter may name, nulls among them."""
    numbers, texts = range(_ROWS), [*_VALUES, None]
    columns: dict[str, Any] = {}
    for place, (name, kind) in enumerate(COLUMNS.items()):
        columns[name] = [texts[(n + place) % len(texts)] for n in numbers] if kind == TEXT else list(numbers)
        if kind == CONDITION:
            columns[name] = [[True, False, None][n % 3] for n in numbers]
    lists = [[{"name": "car", "count": n}] if n % 3 else [] for n in numbers]
    columns["score_0"] = [n / _ROWS if n % 2 else None for n in numbers]
    columns["categories"] = pa.array(lists, CLIP_FACTS.field("categories").type)
    return pa.table(columns)


def expression(chance: random.Random, depth: int = 3) -> str:
    """A filter of the language."""
    if depth and chance.random() < 0.6:
        kind, left = chance.choice(("not", "and", "or", "null", "paren")), expression(chance, depth - 1)
        if kind in ("and", "or"):
            return f"{left} {kind} {expression(chance, depth - 1)}"
        return {"not": f"not ({left})", "null": f"({left}) is null", "paren": f"({left})"}[kind]
    column = chance.choice([*COLUMNS, "count('car')", "count('夜')", "score('rarity')"])
    if COLUMNS.get(column) == CONDITION:
        return column
    is_text = COLUMNS.get(column) == TEXT
    values = [_literal(chance, is_text) for _ in range(3)]
    sign = chance.choice(("=", "<>", "!=", "<", "<=", ">", ">="))
    forms = [f"{column} {sign} {values[0]}", f"{values[0]} {sign} {column}", f"{column} in ({', '.join(values)})"]
    forms += [f"{column} between {values[0]} and {values[1]}", f"{column} is not null"]
    forms += [f"{column} not {chance.choice(('like', 'ilike'))} {values[0]}"] if is_text else []
    return chance.choice(forms)


def _literal(chance: random.Random, is_text: bool) -> str:
    if is_text:
        return "'" + chance.choice(_VALUES).replace("'", "''") + "'"
    return str(chance.choice((chance.randint(-2, _ROWS), 2.5, "1e1", 10**18, "-(-3)")))


def filter_text(chance: random.Random) -> str:
    """A filter, a filter with damage, words in any order, hostile examples, or characters of any kind."""
    kind = chance.randrange(6)
    if kind < 2:
        return expression(chance)
    if kind == 2:
        return _damaged(expression(chance), chance)
    if kind == 3:
        return _damaged(chance.choice(HOSTILE), chance) if chance.random() < 0.7 else _huge(chance)
    if kind == 4:
        return " ".join(chance.choice(_WORDS) for _ in range(chance.randrange(12)))
    highest = chance.choice((127, 0x2FFF, 0x10FFFF))
    return "".join(chr(chance.randrange(highest + 1)) for _ in range(chance.randrange(60)))


def _damaged(text: str, chance: random.Random) -> str:
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(text) + 1)
        text = (
            text[:at]
            + chance.choice(("", chance.choice(_WORDS), chr(chance.randrange(128))))
            + text[at + chance.randrange(3) :]
        )
    return text


def _huge(chance: random.Random) -> str:
    """Far too long, too deep or too wide."""
    size = chance.choice((20, 300, 5000, MAX_CHARACTERS))
    inner = expression(chance, 0)
    return chance.choice(
        [
            "(" * size + inner + ")" * size,
            "not " * size + inner,
            f" {chance.choice(('or', 'and'))} ".join([inner] * min(size, 5000)),
            "num_frames = " + "-" * size + "1",
            "num_frames = " + "- " * size + "1",
            "num_frames = " + "9" * size,
            "x" * size,
            "'" * size,
            f"location in ({', '.join(['1'] * min(size, 5000))})",
            f"num_frames in ({'(' * size}1{')' * size})",
            "location = '" + "x" * size + "'",
            "count(" * size + "'car'" + ")" * size + " > 1",
        ]
    )


def case(chance: random.Random) -> str:
    """Refused with a message, or a filter whose true, false and null rows partition what it was shown."""
    return outcome(filter_text(chance))


FACTS = facts()


def outcome(text: str) -> str:
    """What became of a filter, after checking what must be true of it."""
    try:
        parsed = parse_filter(text)
    except UsageError as error:
        assert error.exit_code == 2 and "Traceback" not in str(error) and len(str(error)) < 2000
        assert set(parsed_lines := str(error).splitlines()) and all(line.isprintable() for line in parsed_lines)
        return "refused"
    assert isinstance(parsed, Filter) and set(parsed.columns) <= set(COLUMNS)
    parts = [_rows(form.format(text)) for form in ("{}", "not ({})", "({}) is null")]
    assert (sum(part.astype(int) for part in parts) == 1).all(), f"true, false and null do not partition: {text!r}"
    seen = _rows(text, FACTS.filter(pa.array(_ALLOWED)))  # the limit is applied around the filter: rows only go
    assert (seen == parts[0][_ALLOWED]).all(), f"rows beyond the allowed set: {text!r}"
    return "rows" if parts[0].any() else "no rows"


def _rows(text: str, table: pa.Table = FACTS) -> Any:
    parsed = parse_filter(text)
    columns = parsed.clip_columns(table)
    for name in {*parsed.columns, *(f"score_{n}" for n in range(len(parsed.scores)))} - set(columns.column_names):
        columns = columns.append_column(name, table[name])
    return parsed.mask(columns)
