"""Random filters, and the same as a function of a pandas frame: every operator of the language over every column."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from miner.query.columns import COLUMNS, CONDITION, TEXT

TEXTS = ["boston", "Boston", "it's", "", "100%", "a_b", "夜", "x, y"]
CATEGORIES = ["car", "bus", "weather: rain", "nothing"]
SCORERS = ["rarity", "nothing"]
COUNTS = {f"count('{name}')": name for name in CATEGORIES}
SCORES = {f"score('{name}')": name for name in SCORERS}
DTYPES = {TEXT: "string", CONDITION: "boolean"}

Evaluate = Callable[[pd.DataFrame], "pd.Series[Any]"]


class Program(NamedTuple):
    """A filter, and what it gives of a frame with its columns: True, False or NA a row."""

    text: str
    evaluate: Evaluate


def program(chance: random.Random, depth: int = 3) -> Program:
    """A filter of the language. As in SQL, NA is what a comparison with NA gives, and logic is Kleene's."""
    if depth and chance.random() < 0.7:
        kind, one = chance.choice(("not", "and", "or", "and", "null")), program(chance, depth - 1)
        if kind == "not":
            return Program(f"not ({one.text})", lambda frame: ~one.evaluate(frame))
        if kind == "null":
            word = chance.choice(("is null", "is not null"))
            return Program(f"({one.text}) {word}", lambda frame: _null(one.evaluate(frame), word))
        other = program(chance, depth - 1)
        if kind == "and":
            both = f"({one.text}) and ({other.text})"
            return Program(both, lambda frame: one.evaluate(frame) & other.evaluate(frame))
        return Program(f"({one.text}) or ({other.text})", lambda frame: one.evaluate(frame) | other.evaluate(frame))
    return _comparison(chance)


def _comparison(chance: random.Random) -> Program:
    name = chance.choice([*COLUMNS, *COUNTS, *SCORES])
    kind = COLUMNS.get(name, "")
    word = chance.choice(("is null", "is not null"))
    if kind == CONDITION:
        return chance.choice([Program(name, lambda frame: frame[name]), _nulls(name, word)])
    forms = [_nulls(name, word), _compared(name, chance), _compared(name, chance), _between(name, chance)]
    forms += [_contained(name, chance), _beside(name, chance)]
    forms += [_like(name, chance), _like(name, chance)] if kind == TEXT else []
    return chance.choice(forms)


def _nulls(name: str, word: str) -> Program:
    return Program(f"{name} {word}", lambda frame: _null(frame[name], word))


def _null(column: pd.Series[Any], word: str) -> pd.Series[Any]:
    return (column.isna() if word == "is null" else column.notna()).astype("boolean")


def _compared(name: str, chance: random.Random) -> Program:
    sign, value = chance.choice(("=", "<>", "!=", "<", "<=", ">", ">=")), _value(name, chance)
    return Program(f"{name} {sign} {_said(value)}", lambda frame: _signed(sign, frame[name], value))


def _beside(name: str, chance: random.Random) -> Program:
    """A column beside another of its kind."""
    other = chance.choice([each for each, kind in COLUMNS.items() if (kind == TEXT) == (COLUMNS.get(name) == TEXT)])
    if COLUMNS[other] == CONDITION:
        return _nulls(name, "is null")
    sign = chance.choice(("=", "<>", "<", ">="))
    return Program(f"{name} {sign} {other}", lambda frame: _signed(sign, frame[name], frame[other]))


def _signed(sign: str, left: Any, right: Any) -> pd.Series[Any]:
    signs = {"=": "eq", "<>": "ne", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    found: pd.Series[Any] = getattr(left, signs[sign])(right).astype("boolean")
    return found


def _between(name: str, chance: random.Random) -> Program:
    low, high, word = _value(name, chance), _value(name, chance), chance.choice(("", "not "))

    def evaluate(frame: pd.DataFrame) -> pd.Series[Any]:
        within = _signed(">=", frame[name], low) & _signed("<=", frame[name], high)
        return ~within if word else within

    return Program(f"{name} {word}between {_said(low)} and {_said(high)}", evaluate)


def _contained(name: str, chance: random.Random) -> Program:
    values, word = [_value(name, chance) for _ in range(chance.randrange(1, 4))], chance.choice(("", "not "))

    def evaluate(frame: pd.DataFrame) -> pd.Series[Any]:
        inside = frame[name].isin(values).astype("boolean").mask(frame[name].isna())
        return ~inside if word else inside

    return Program(f"{name} {word}in ({', '.join(map(_said, values))})", evaluate)


def _like(name: str, chance: random.Random) -> Program:
    pattern = chance.choice(("%o%", "bo%", "_oston", "%", "", "100%", "a_b", "a%b", "_", "%夜%", "%.jpg", "it's"))
    word, flags = chance.choice((("like", re.DOTALL), ("ilike", re.DOTALL | re.IGNORECASE)))
    negated = chance.choice(("", "not "))
    expression = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)

    def evaluate(frame: pd.DataFrame) -> pd.Series[Any]:
        matched = frame[name].str.fullmatch(expression, flags=flags).astype("boolean")
        return ~matched if negated else matched

    return Program(f"{name} {negated}{word} {_said(pattern)}", evaluate)


def _value(name: str, chance: random.Random) -> Any:
    if COLUMNS.get(name) == TEXT:
        return chance.choice(TEXTS)
    return chance.choice((chance.randrange(-2, 12), chance.randrange(0, 120), 0.5, 2.5, 20.0))


def _said(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
