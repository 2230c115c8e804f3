"""`--where EXPR`: a small filter language, a subset of SQL, checked word by word and never passed through.

    dataset = 'nuscenes' and not split = 'test' and count('human.pedestrian') >= 3 and channel like 'CAM_FRONT%'
    assets.sharpness > 20 and score('rarity') > 0.2 and is_key_frame

Words that are not of the language are refused before the parser sees them. What the parser makes of the rest is checked
node by node and type by type, and written again with every value as a parameter, for `miner.query.evaluate`. As in SQL
a comparison with null is neither true nor false, and does not pass.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miner.errors import UsageError
from miner.query.columns import CLIP_COLUMNS, COLUMNS, CONDITION, NUMBER, PLAIN, QUALIFIED, QUALIFIERS, TEXT
from miner.query.evaluate import Evaluator

if TYPE_CHECKING:
    from sqlglot.expressions import Expression

MAX_CHARACTERS = 100_000
MAX_TERMS = 256
MAX_NESTING = 16

_PUNCTUATION = {"(", ")", ",", "-", "=", "<>", "!=", "<", "<=", ">", ">="}
_WORDS = {"AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "ILIKE", "IS", "NULL", "COUNT", "SCORE"}
_COMPARISONS = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_FUNCTIONS = "count('category') and score('scorer')"
_SAY = f"A filter is comparisons joined by and, or, not. Columns: {', '.join(PLAIN)}; {_FUNCTIONS}"


@dataclass(frozen=True)
class Filter:
    """A checked filter: `sql` with `$n` for `values`, and what it reads.

    `columns` by their names in the language, `categories` behind `count_0`, ..., `scores` behind `score_0`, ...;
    `text` in the language; `conjuncts` are filters of which a row has to pass every one, if there are several.
    """

    sql: str
    values: tuple[str | int | float, ...]
    columns: tuple[str, ...]
    categories: tuple[str, ...]
    scores: tuple[str, ...] = ()
    text: str = field(default="", compare=False)
    conjuncts: tuple[Filter, ...] = field(default=(), repr=False, compare=False)

    @property
    def parts(self) -> tuple[Filter, ...]:
        """Filters of which a row has to pass every one: the conjuncts, or this one."""
        return self.conjuncts or (self,)

    def clip_columns(self, facts: pa.Table) -> pa.Table:
        """What the filter reads of `clip_facts` rows, row by row, with `count('category')` worked out as columns."""
        table = facts.select([name for name in self.columns if name in CLIP_COLUMNS])
        for number, category in enumerate(self.categories):
            table = table.append_column(f"count_{number}", pa.array(count_of(facts["categories"], category)))
        return table

    def mask(self, table: pa.Table, evaluator: Evaluator | None = None) -> NDArray[np.bool_]:
        """Which rows pass, (len(table),) bool. `table` has the columns of the filter, its counts and its scores."""
        return (evaluator or Evaluator()).mask(self.sql, self.values, table)


def parse_filter(text: str) -> Filter:
    """The filter that `text` is. Raises UsageError with a caret under the place, and the nearest name if unknown."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import ParseError

    _check_words(text)
    try:
        tree = parse_one(text, dialect="duckdb", into=exp.Condition)
    except ParseError as error:
        _refuse(text, _place(text, error.errors[0]), "this is where the filter stops making sense")
    parts = _conjuncts(tree)
    return _compiled(text, tree, tuple(_compiled(text, part) for part in parts) if len(parts) > 1 else ())


def _compiled(text: str, tree: Expression, conjuncts: tuple[Filter, ...] = ()) -> Filter:
    compiler = _Compiler(text)
    sql = compiler.condition(tree).sql
    read = tuple(sorted(compiler.columns)), tuple(compiler.categories), tuple(compiler.scores)
    return Filter(sql, tuple(compiler.values), *read, tree.sql(dialect="duckdb"), conjuncts)


def _conjuncts(tree: Expression) -> list[Expression]:
    """The parts that the filter joins by AND, left to right."""
    found, left = [], [tree]
    while left:
        node = left.pop()
        while type(node).__name__ == "Paren":
            node = node.this
        if type(node).__name__ == "And":
            left += [node.expression, node.this]
        else:
            found.append(node)
    return found


# -- before the parser -------------------------------------------------------------------------------------------------


def _check_words(text: str) -> None:
    """Refuse sizes, characters and words that are not of the language, so that the parser sees nothing else."""
    from sqlglot import tokenize
    from sqlglot.errors import TokenError

    if not text.strip():
        raise UsageError("the filter is empty", _SAY)
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the filter has {len(text):,} characters, at most {MAX_CHARACTERS:,} are allowed")
    for place, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            _refuse(text, place, f"character U+{ord(character):04X} is not allowed")
    try:
        tokens = tokenize(text, dialect="duckdb")
    except TokenError:
        _refuse(text, _open_quote(text), "this quote is never closed")
    if not tokens:
        raise UsageError("the filter is only a comment", _SAY)
    _check_size(text, tokens)
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        _check_word(text, before, token, after)


def _check_size(text: str, tokens: list[Any]) -> None:
    depth = prefixes = 0
    terms = 1
    for token in tokens:
        word = token.text.upper() if token.token_type.name != "STRING" else ""
        depth += (word == "(") - (word == ")")
        prefixes = prefixes + 1 if word in ("NOT", "-", "(") else 0
        terms += word in ("AND", "OR")
        if depth > MAX_NESTING or prefixes > MAX_NESTING:
            _refuse(text, token.start, f"nested more than {MAX_NESTING} deep")
        if terms > MAX_TERMS:
            _refuse(text, token.start, f"more than {MAX_TERMS} terms")


def _check_word(text: str, before: Any, token: Any, after: Any) -> None:
    kind, word = token.token_type.name, token.text
    if token.comments:
        _refuse(text, token.start, "comments are not allowed in a filter")
    if kind in ("STRING", "NUMBER") or word in _PUNCTUATION or word.upper() in _WORDS or word.lower() in PLAIN:
        return
    if word.lower() in QUALIFIERS and after is not None and after.text == ".":
        return
    if word == "." and before is not None and before.text.lower() in QUALIFIERS:
        if after is None or f"{before.text}.{after.text}".lower() not in QUALIFIED:
            _refuse_name(
                text,
                token.start if after is None else after.start,
                f"{before.text}.{'' if after is None else after.text}",
                QUALIFIED,
            )
        return
    if before is not None and before.text == ".":  # it was looked at with the dot
        return
    if kind not in ("VAR", "IDENTIFIER"):
        _refuse(text, token.start, f"{_shortened(word)!r} is not allowed in a filter")
    if after is not None and after.text == "(":
        what = f"function {_shortened(word)!r} is not allowed; there are {_FUNCTIONS}"
        _refuse(text, token.start, what)
    _refuse_name(text, token.start, word, PLAIN, " Text goes in single quotes." if kind == "IDENTIFIER" else "")


def _refuse_name(text: str, place: int, name: str, known: Iterable[str], advice: str = "") -> NoReturn:
    near = difflib.get_close_matches(_shortened(name).lower(), known, n=1)
    hint = (f"Did you mean {near[0]!r}? " if near else "") + _SAY + advice
    _refuse(text, place, f"unknown column {_shortened(name)!r}", hint)


# -- after the parser --------------------------------------------------------------------------------------------------


class _Term(NamedTuple):
    """A checked part of the filter. `value` is set for literals only."""

    sql: str
    kind: str
    value: str | int | float | None = None


@dataclass
class _Compiler:
    """Checks a parsed tree and writes it as SQL; collects the values, columns and categories on the way."""

    text: str
    values: list[str | int | float] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    categories: list[str] = field(default_factory=list)
    scores: list[str] = field(default_factory=list)

    def condition(self, node: Expression) -> _Term:
        """`node` as a term that is true, false or null."""
        term = self.term(node)
        if term.kind != CONDITION:
            self.refuse(node, f"expected a condition such as scene = 'x', got {term.kind}")
        return term

    def term(self, node: Expression) -> _Term:
        """`node` as a checked term. Refuses every kind of node, and every part of a node, not named here."""
        name = type(node).__name__
        handler = _HANDLERS.get(name)
        if handler is None:
            self.refuse(node, f"{name} is not allowed in a filter")
        check, parts = handler
        if extra := {part for part, value in node.args.items() if value} - set(parts):
            self.refuse(node, f"{name} with {', '.join(sorted(extra))} is not allowed in a filter")
        return check(self, node)

    def joined(self, node: Expression) -> _Term:
        """AND and OR: a chain of hundreds leans to the left, so it is unrolled."""
        word, parts = type(node).__name__, []
        while type(node).__name__ == word:
            parts.append(node.expression)
            node = node.this
        terms = [self.condition(part).sql for part in [node, *reversed(parts)]]
        return _Term(f"({f' {word.upper()} '.join(terms)})", CONDITION)

    def negated(self, node: Expression) -> _Term:
        return _Term(f"(NOT {self.condition(node.this).sql})", CONDITION)

    def bracketed(self, node: Expression) -> _Term:
        return self.term(node.this)

    def compared(self, node: Expression) -> _Term:
        left, right = self.alike(node, [node.this, node.expression])
        return _Term(f"({left} {_COMPARISONS[type(node).__name__]} {right})", CONDITION)

    def between(self, node: Expression) -> _Term:
        value, low, high = self.alike(node, [node.this, node.args["low"], node.args["high"]])
        return _Term(f"({value} BETWEEN {low} AND {high})", CONDITION)

    def contained(self, node: Expression) -> _Term:
        listed = node.expressions
        if not listed or any(self.constant(each) is None for each in listed):
            self.refuse(node, "IN takes a list of literals in parentheses")
        value, *members = self.alike(node, [node.this, *listed])
        return _Term(f"({value} IN ({', '.join(members)}))", CONDITION)

    def matched(self, node: Expression) -> _Term:
        value, pattern = self.alike(node, [node.this, node.expression])
        if not isinstance(self.constant(node.expression), str):
            self.refuse(node.expression, "the pattern of LIKE is a text in single quotes")
        word = ("NOT " if node.args.get("negate") else "") + type(node).__name__.upper()
        return _Term(f"({value} {word} {pattern})", CONDITION)

    def is_null(self, node: Expression) -> _Term:
        value = self.term(node.this)
        if type(node.expression).__name__ != "Null" or value.value is not None:
            self.refuse(node, "IS takes null after a column or a condition: x is null, x is not null")
        return _Term(f"({value.sql} IS NULL)", CONDITION)

    def column(self, node: Expression) -> _Term:
        table = node.args.get("table")
        name = (f"{table.name}." if table else "").lower() + node.this.name.lower()
        if name not in COLUMNS:
            self.refuse(node, f"unknown column {name!r}", _SAY)
        self.columns.add(name)
        return _Term(f'"{name}"', COLUMNS[name])

    def counted(self, node: Expression) -> _Term:
        category = self.constant(node.this)
        if not isinstance(category, str):
            self.refuse(node, "count takes one category in single quotes: count('vehicle.car')")
        if category not in self.categories:
            self.categories.append(category)
        return _Term(f"count_{self.categories.index(category)}", NUMBER)

    def scored(self, node: Expression) -> _Term:
        scorer = self.constant(node.expressions[0]) if len(node.expressions) == 1 else None
        if str(node.this).lower() != "score" or not isinstance(scorer, str):
            self.refuse(node, "score takes the name of one scorer in single quotes: score('rarity')")
        if scorer not in self.scores:
            self.scores.append(scorer)
        return _Term(f"score_{self.scores.index(scorer)}", NUMBER)

    def literal(self, node: Expression) -> _Term:
        value = self.constant(node)
        if value is None:
            self.refuse(node, "a minus goes before a number only")
        self.values.append(value)
        return _Term(f"${len(self.values)}", TEXT if isinstance(value, str) else NUMBER, value)

    def constant(self, node: Expression) -> str | int | float | None:
        """The value of a literal, with its minus signs and parentheses; None for anything else."""
        name = type(node).__name__
        if name == "Literal":
            return str(node.this) if node.is_string else self.number(node)
        value = self.constant(node.this) if name in ("Paren", "Neg") else None
        if name == "Neg":
            return -value if isinstance(value, int | float) else None
        return value

    def number(self, node: Expression) -> int | float:
        """Whole numbers stay exact integers however they are written: times are too large for a float64."""
        digits = str(node.this)
        value = int(digits) if digits.isdigit() and len(digits) < 30 else float(digits)
        if not math.isfinite(value) or abs(value) >= 2**63:
            self.refuse(node, "this number is too large for a 64-bit integer")
        return int(value) if value == int(value) else value

    def alike(self, node: Expression, parts: list[Expression]) -> list[str]:
        """Parts that are compared with each other: of one type, text or numbers, and not all of them literals."""
        terms = [self.term(part) for part in parts]
        kinds = {term.kind for term in terms}
        if len(kinds) > 1 or CONDITION in kinds:
            said = [f"{self.shown(part)} ({term.kind})" for part, term in zip(parts, terms, strict=True)]
            self.refuse(node, f"cannot compare {' with '.join(dict.fromkeys(said))}")
        if all(term.value is not None for term in terms):
            self.refuse(node, "a comparison needs a column on one side")
        return [term.sql for term in terms]

    def shown(self, node: Expression) -> str:
        return _shortened(node.sql(dialect="duckdb"))

    def refuse(self, node: Expression, what: str, hint: str = "") -> NoReturn:
        """UsageError at the first place in the text that the parser noted for `node` or a part of it."""
        places = [part.meta["start"] for part in node.walk() if "start" in part.meta]
        _refuse(self.text, min(places, default=0), what, hint)


_TWO = ("this", "expression")
_HANDLERS: dict[str, tuple[Callable[[_Compiler, Any], _Term], tuple[str, ...]]] = {
    **dict.fromkeys(_COMPARISONS, (_Compiler.compared, _TWO)),
    **dict.fromkeys(("And", "Or"), (_Compiler.joined, _TWO)),
    **dict.fromkeys(("Like", "ILike"), (_Compiler.matched, (*_TWO, "negate"))),
    **dict.fromkeys(("Literal", "Neg"), (_Compiler.literal, ("this", "is_string"))),
    "Not": (_Compiler.negated, ("this",)),
    "Paren": (_Compiler.bracketed, ("this",)),
    "Between": (_Compiler.between, ("this", "low", "high")),
    "In": (_Compiler.contained, ("this", "expressions")),
    "Is": (_Compiler.is_null, _TWO),
    "Column": (_Compiler.column, ("this", "table")),
    "Anonymous": (_Compiler.scored, ("this", "expressions")),
    "Count": (_Compiler.counted, ("this", "big_int")),
}


# -- saying where ------------------------------------------------------------------------------------------------------


def _refuse(text: str, place: int, what: str, hint: str = "") -> NoReturn:
    """UsageError with the line of the filter around `place`, on one line of printable characters, and a caret below."""
    first = max(0, place - 40)
    window = "".join(c if c.isprintable() else "?" for c in text[first : place + 40])
    raise UsageError(f"filter, column {place + 1}: {what}\n  {window}\n  {' ' * (place - first)}^", hint)


def _shortened(word: str) -> str:
    return word if len(word) <= 40 else word[:40] + "..."


def _place(text: str, error: dict[str, Any]) -> int:
    """Where a parser error is: it names the line and the column of the last character of a token."""
    before = sum(len(line) + 1 for line in text.split("\n")[: error["line"] - 1])
    place = before + int(error["col"]) - max(len(error["highlight"]), 1)
    return min(max(place, 0), len(text))


def _open_quote(text: str) -> int:
    """The start of the quoted part that runs to the end of the text."""
    quote, start = "", 0
    for place, character in enumerate(text):
        if not quote and character in "'\"":
            quote, start = character, place
        elif character == quote:
            quote = ""
    return start


def count_of(categories: pa.ChunkedArray, name: str) -> NDArray[np.int64]:
    """How many objects of category `name` each row (list of name and count) has: (n,) int64."""
    lists = categories.combine_chunks()
    rows, entries = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)
    counts = np.where(pc.equal(entries.field("name"), name).to_numpy(zero_copy_only=False), entries.field("count"), 0)
    return np.bincount(rows, counts, minlength=len(categories)).astype(np.int64)
