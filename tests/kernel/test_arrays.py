"""Arrays go to PostgreSQL and come back as asyncpg's own way would take them."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgworker.errors import InvalidRequest
from cgworker.kernel.store.postgres.database import Database

TEXTS = st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
BYTES = st.lists(st.none() | st.binary())
CASES: list[list[list[Any]]] = [
    [["a", None, "NULL", "", "ü"], [b"\0", None, b""]],
    [[], []],
    [[None], [None]],
]
SAME = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@SAME
@given(texts=TEXTS, blobs=BYTES)
async def test_an_array_comes_back_as_it_was(
    database: Database, texts: list[str | None], blobs: list[bytes | None]
) -> None:
    row = await database.fetchrow("select $1::text[] as texts, $2::bytea[] as blobs", texts, blobs)
    assert row is not None
    assert (row["texts"], row["blobs"]) == (texts, blobs)


async def test_json_is_bytes_and_comes_back_as_it_was(database: Database) -> None:
    """Nothing decodes it only to encode it again."""
    texts = [b'{"a": [1.0, "\\u0000"]}', None, '"ü"'.encode()]
    row = await database.fetchrow("select $1::json[] as texts", texts)
    assert row is not None
    assert row["texts"] == texts
    with pytest.raises(InvalidRequest):
        await database.fetch("select $1::json[]", [b"{"])


async def test_postgresql_sees_the_same_as_through_asyncpg(database: Database, dsn: str) -> None:
    """Also NULL, which is no text, and an empty array, which has no dimensions."""
    statement = "select $1::text[]::text, $2::bytea[]::text, array_ndims($1), array_lower($2, 1)"
    plain = await asyncpg.connect(dsn)
    try:
        for values in CASES:
            assert await database.fetchrow(statement, *values) == await plain.fetchrow(statement, *values)
    finally:
        await plain.close()


@pytest.mark.parametrize("unfit", ["\0", "\ud800", 1, ["nested"]])
async def test_an_element_that_is_no_text_is_the_senders_fault(database: Database, unfit: Any) -> None:
    with pytest.raises(InvalidRequest):
        await database.fetch("select $1::text[]", ["a", unfit])


async def test_no_element_is_asked_whether_it_is_an_array(database: Database) -> None:
    """A hundred of them need as many calls of `collections.abc` as one."""
    assert await _looks_at_classes(database, 100) == await _looks_at_classes(database, 1)


async def _looks_at_classes(database: Database, count: int) -> int:
    looks = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal looks
        looks += event == "call" and frame.f_code.co_name == "__instancecheck__"

    sys.setprofile(note)
    try:
        await database.fetch("select $1::text[], $2::bytea[]", ["a"] * count, [b"a"] * count)
    finally:
        sys.setprofile(None)
    return looks
