"""Private stores: files, and objects in S3 or a folder, with and without a key."""

from __future__ import annotations

import gc
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import (
    FolderStore,
    ListingStore,
    ObjectStore,
    PrivateStore,
    UsageError,
    WorkerOptions,
    key_from_file,
)
from cgworker.stores import objects
from cgworker.stores.threads import in_thread
from tests.object_stores import s3_settings, write_key

TURN, OTHER = "a" * 40, "a" * 39 + "b"
NAME = f"{TURN}/{'1' * 64}"
SECRET = b"a customer's own words"

KINDS = ["folder", "file", "file+key", "s3", "s3+key"]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    with s3_settings() as settings:
        yield settings


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], PrivateStore]:
    """Returns a store of a kind; two of one kind are one place."""
    key_file = write_key(tmp_path / "key")

    def make(kind: str) -> PrivateStore:
        place, _, wants_key = kind.partition("+")
        key = key_from_file(key_file) if wants_key else None
        if place == "folder":
            return FolderStore(tmp_path / "folder")
        if place == "file":
            return ObjectStore((tmp_path / "objects").as_uri(), key=key)
        where = f"s3://bucket/{tmp_path.name}"
        return ObjectStore(where, key=key, **request.getfixturevalue("s3"))

    return make


@pytest.mark.parametrize("kind", KINDS)
async def test_what_one_worker_puts_another_gets(kind: str, make: Callable[[str], PrivateStore]) -> None:
    """And a name that was not put is None."""
    store = make(kind)
    assert isinstance(store, PrivateStore)
    assert await store.get(NAME) is None
    await store.put(NAME, SECRET)
    await store.put(NAME, SECRET)  # a repeat
    assert await make(kind).get(NAME) == SECRET


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turns_values_are_removed_and_those_of_no_other(
    kind: str, make: Callable[[str], PrivateStore]
) -> None:
    """A turn without values, or one that another worker has removed already, is no error."""
    store = make(kind)
    for name in (NAME, f"{TURN}/{'2' * 64}", f"{OTHER}/{'1' * 64}"):
        await store.put(name, SECRET)
    await store.delete(TURN)
    await store.delete(TURN)
    assert [await store.get(name) for name in (NAME, f"{TURN}/{'2' * 64}")] == [None, None]
    assert await store.get(f"{OTHER}/{'1' * 64}") == SECRET


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turns_values_are_listed_where_nobody_else_could_have_put_them(
    kind: str, make: Callable[[str], PrivateStore]
) -> None:
    """A value without a record has no digest to be held against: a bucket without a key says nothing."""
    store = make(kind)
    assert isinstance(store, ListingStore)
    assert await store.names(TURN) == (None if kind == "s3" else [])
    for name in (NAME, f"{OTHER}/{'1' * 64}"):
        await store.put(name, SECRET)
    assert await store.names(TURN) == (None if kind == "s3" else [NAME])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["folder", "s3+key"])
async def test_a_hundred_megabytes_are_a_value(kind: str, make: Callable[[str], PrivateStore]) -> None:
    """As a customer's file is."""
    large = SECRET * (100_000_000 // len(SECRET))
    await make(kind).put(NAME, large)
    assert await make(kind).get(NAME) == large


async def test_a_folder_may_be_given_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes from a variable or a command line; `~` is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    await FolderStore("~/values").put(NAME, SECRET)
    assert await FolderStore(str(tmp_path / "values")).get(NAME) == SECRET
    assert WorkerOptions(outbox_path=str(tmp_path)).outbox_folder == tmp_path


@pytest.mark.parametrize("kind", ["folder", "file"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_only_the_user_reads_what_is_in_files(
    kind: str, make: Callable[[str], PrivateStore], tmp_path: Path
) -> None:
    """No other user gets past the folder."""
    await make(kind).put(NAME, SECRET)
    place = tmp_path / {"folder": "folder", "file": "objects"}[kind]
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize(("kind", "size"), [("folder", 20), ("folder", 200_000), ("file", 20)])
async def test_the_disk_has_a_value_and_the_event_loop_does_not_wait_for_it(
    kind: str, size: int, make: Callable[[str], PrivateStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Syncing is done in a thread."""
    threads: list[threading.Thread] = []

    def noting(descriptor: int) -> None:
        threads.append(threading.current_thread())
        os.fdatasync(descriptor)

    monkeypatch.setattr("cgworker.stores.segments._sync_data", noting)
    monkeypatch.setattr("os.fsync", noting)
    await make(kind).put(NAME, bytes(size))
    assert len(threads) == 3  # of the file, its folder and the folder above
    assert threading.current_thread() not in threads


async def test_a_thread_for_a_call_costs_few_calls(anyio_backend_name: str) -> None:
    """On asyncio; a private step syncs its value in a thread."""
    if anyio_backend_name != "asyncio":
        return
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    await in_thread(threading.get_ident)
    sys.setprofile(note)
    try:
        for _ in range(10):
            assert await in_thread(threading.get_ident) != threading.get_ident()
    finally:
        sys.setprofile(None)
    assert count / 10 < 110  # anyio makes 125


async def test_a_cancelled_caller_does_not_wait_for_its_call(tmp_path: Path) -> None:
    """The call goes on, as that of a store which hangs."""
    may_end, done = threading.Event(), tmp_path / "done"

    def hang() -> None:
        may_end.wait(60)
        done.touch()

    with anyio.move_on_after(0.05) as scope:
        await in_thread(hang)
    assert scope.cancelled_caught
    may_end.set()
    with anyio.fail_after(60):
        while not done.exists():  # noqa: ASYNC110  # the thread tells nobody
            await anyio.sleep(0.01)


def test_the_threads_end_with_their_event_loop() -> None:
    """A program may run many, one after the other."""
    for _ in range(3):
        assert anyio.run(in_thread, threading.get_ident) != threading.get_ident()
    gc.collect()
    deadline = time.monotonic() + 60
    while any("cgworker store" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a thread that ends tells nobody


async def test_a_store_that_is_away_for_a_while_costs_no_value() -> None:
    """A model was paid for it; obstore's own ten repeats end after two seconds."""
    left = [20]

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while await stream.receive():
                    left[0] -= 1
                    status = b"500 Internal Server Error" if left[0] > 0 else b'200 OK\r\netag: "1"'
                    await stream.send(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        keys: dict[str, Any] = {"access_key_id": "a", "secret_access_key": "b", "region": "x"}
        allowed: dict[str, Any] = {
            "endpoint": f"http://127.0.0.1:{port}",
            "client_options": {"allow_http": True},
        }
        quick = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=10)}
        retry = {**objects._REPEATS, "backoff": quick}  # noqa: SLF001  # as often, but sooner
        store = ObjectStore("s3://bucket/private", retry_config=retry, **keys, **allowed)
        await store.put(NAME, SECRET)
        tasks.cancel_scope.cancel()
    assert left[0] <= 0


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("place", ["file", "s3"])
async def test_with_a_key_the_store_sees_no_values(place: str, make: Callable[[str], PrivateStore]) -> None:
    """Nor twice the same bytes for the same value."""
    await make(f"{place}+key").put(NAME, SECRET)
    first = await make(place).get(NAME)
    await make(f"{place}+key").put(NAME, SECRET)
    second = await make(place).get(NAME)
    assert first is not None
    assert SECRET not in first
    assert first != second


async def test_what_was_changed_or_moved_counts_as_missing(make: Callable[[str], PrivateStore]) -> None:
    """A value is bound to its name, and every bit of it is checked."""
    await make("file+key").put(NAME, SECRET)
    kept = await make("file").get(NAME)
    assert kept is not None
    await make("file").put(f"{OTHER}/{'1' * 64}", kept)
    assert await make("file+key").get(f"{OTHER}/{'1' * 64}") is None
    for broken in (kept[:-1] + bytes([kept[-1] ^ 1]), kept[:5], b""):
        await make("file").put(NAME, broken)
        assert await make("file+key").get(NAME) is None


async def test_another_key_finds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, and not what."""
    where = (tmp_path / "objects").as_uri()
    await ObjectStore(where, key=bytes(32)).put(NAME, SECRET)
    assert await ObjectStore(where, key=b"x" * 32).get(NAME) is None
    assert "was encrypted with another key, or changed" in caplog.text


def test_a_key_file_of_others_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Each error names the file, and says what is wrong with it."""
    with pytest.raises(UsageError, match="cannot be read"):
        key_from_file(tmp_path / "none")
    short = tmp_path / "short"
    for content in ("c2hvcnQ=", "no base 64 ä", ""):
        short.write_text(content)
        short.chmod(0o600)
        with pytest.raises(UsageError, match="needs 32 bytes in Base64"):
            key_from_file(short)
    if sys.platform != "win32":
        opened = write_key(tmp_path / "open")
        opened.chmod(0o644)
        with pytest.raises(UsageError, match="permissions must be 0600"):
            key_from_file(opened)


def test_an_object_store_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    """Before a worker claims anything."""
    with pytest.raises(UsageError, match="32 bytes, not 5"):
        ObjectStore(tmp_path.as_uri(), key=b"short")
    for url in ("bucket/prefix", "nothing://bucket"):
        with pytest.raises(UsageError, match="is no place for private values"):
            ObjectStore(url)


def test_no_key_is_shown(tmp_path: Path) -> None:
    """As in a traceback, or a log of the options."""
    assert (
        repr(ObjectStore(tmp_path.as_uri(), key=b"k" * 32)) == f"ObjectStore({tmp_path.as_uri()!r}, key=...)"
    )


def test_what_is_missing_for_an_object_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr("cgworker.stores.objects.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'cgworker\[private\]'"):
        ObjectStore("s3://bucket/prefix")
