"""Ids and names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.encoder import slug
from miner.errors import UsageError
from miner.ids import MAX_NAME, check_label, check_name, is_token, make_id

ANY = st.text(st.characters(exclude_categories=()), max_size=200)


@given(st.lists(ANY, max_size=4), st.lists(ANY, max_size=4))
def test_any_text_has_an_id_of_its_own(parts: list[str], others: list[str]) -> None:
    assert is_token(make_id("scene", *parts))
    assert (make_id("scene", *parts) == make_id("scene", *others)) == (parts == others)


def test_ids_do_not_change() -> None:
    assert make_id("scene", "nuscenes", "夜") == "78befa5717da35dbade84094f8c96f29"
    assert make_id("a", "bc") != make_id("ab", "c") != make_id("abc")


@pytest.mark.parametrize(
    "name", ["nuscenes", "night rain", "夜の運転", "e\u0301té", "हिन्दी", "Anna's (raw), v1.0", "x" * MAX_NAME]
)
def test_labels_of_any_script(name: str) -> None:
    assert check_label("dataset", name) == name


BAD = [
    "",
    " x",
    "-x",
    ".x",
    "..",
    "a/b",
    "a\\b",
    "a\nb",
    "a\0b",
    "\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "\ud800",
    "\ue000",
]


@pytest.mark.parametrize("name", [*BAD, "x" * (MAX_NAME + 1), "x" * 4096])
def test_labels_that_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"dataset .*not a name") as caught:
        check_label("dataset", name)
    assert len(str(caught.value)) < 500 and str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", [*sorted({*BAD} - {"a/b"}), "a b", "é", "a'b", "a;b", "$HOME", "x" * (MAX_NAME + 1)])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"encoder .*not a name"):
        check_name("encoder", name)


@given(ANY)
def test_a_name_that_passes_makes_a_file_name(text: str) -> None:
    try:
        name = slug(check_name("encoder", text))
    except UsageError:
        return
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name) and ".." not in name.split("-")
