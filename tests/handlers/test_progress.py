"""The progress file, as a hostile or clumsy command may leave it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from cgworker import Reason, Turn
from cgworker.errors import CommonGroundError, FencingError, InvalidRequest
from cgworker.handlers import progress
from cgworker.handlers.environment import mask_for
from cgworker.handlers.progress import ProgressFile
from tests.turns import CREDENTIAL, make_turn


class Recorder:
    """A turn whose records are kept here; `refuse` answers what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.turn: Turn = make_turn()
        self.taken: list[Any] = []
        self.refusal: CommonGroundError | None = None
        self.path = path
        self.file = ProgressFile(path, self.turn, mask_for([CREDENTIAL]))
        monkeypatch.setattr(self.turn, "record", self._record)

    async def _record(self, payload: Any) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.taken.append(payload)

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorder:
    return Recorder(monkeypatch, tmp_path / "progress.jsonl")


async def test_a_line_counts_once_it_ends(recorder: Recorder) -> None:
    """However it is cut by the writer."""
    for piece in (b'{"n": ', b"1}\n{", b'"n": 2}\n\n', b'{"n": 3'):
        recorder.write(piece)
        await recorder.file.record_rest()
    assert recorder.taken == [{"n": 1}, {"n": 2}]


async def test_what_is_no_json_is_left_out_and_the_rest_is_not(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once."""
    recorder.write(b'1\n{oops\n\xff\xfe\nNaN\n"\\ud800"\n' + b"[" * 100_000 + b"\n\0\n2\n")
    await recorder.file.record_rest()
    assert recorder.taken == [1, 2]
    assert caplog.text.count("progress left out") == 1


@pytest.mark.parametrize("size", [300_000, 3_000_000])
async def test_a_line_too_long_is_left_out_and_those_after_it_are_not(recorder: Recorder, size: int) -> None:
    """Also one that is longer than is ever read at once."""
    recorder.write(b'1\n"' + b"x" * size + b'"\n2\n')
    await recorder.file.record_rest()
    assert recorder.taken == [1, 2]


async def test_a_secret_in_a_line_is_masked(recorder: Recorder) -> None:
    """Records are public."""
    recorder.write(b'{"token": "%s"}\n' % CREDENTIAL.encode())
    await recorder.file.record_rest()
    assert recorder.taken == [{"token": "***"}]


async def test_thousands_of_lines_are_recorded_in_order_up_to_the_limit(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command must not fill the ledger."""
    monkeypatch.setattr(progress, "_MAX_RECORDS", 3000)
    recorder.write(b"".join(b"%d\n" % n for n in range(5000)))
    await recorder.file.record_rest()
    assert recorder.taken == list(range(3000))


async def test_a_file_too_large_is_read_no_further(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that writes for ever does not keep the worker at it."""
    monkeypatch.setattr(progress, "_MAX_FILE_BYTES", 10_000)
    monkeypatch.setattr(progress, "_PIECE_BYTES", 1000)
    recorder.write(b"123456789\n" * 5000)
    await recorder.file.record_rest()
    assert 900 <= len(recorder.taken) <= 1100


async def test_after_a_lost_lease_nothing_is_recorded(recorder: Recorder) -> None:
    """Neither the rest, nor anything after the first refusal."""
    recorder.refusal = FencingError("another holds it")
    recorder.write(b"1\n2\n")
    await recorder.file.record_rest()
    recorder.refusal = None
    recorder.write(b"3\n")
    await recorder.file.record_rest()
    recorder.turn.interrupt(Reason.LEASE_LOST)
    other = ProgressFile(recorder.path, recorder.turn, str)
    await other.record_rest()
    assert recorder.taken == []


async def test_a_line_that_the_kernel_refuses_is_left_out_alone(recorder: Recorder) -> None:
    """It is that line's fault."""
    recorder.refusal = InvalidRequest([{"msg": "no"}])
    recorder.write(b"1\n")
    await recorder.file.record_rest()
    recorder.refusal = None
    recorder.write(b"2\n")
    await recorder.file.record_rest()
    assert recorder.taken == [2]


async def test_the_rest_is_recorded_for_a_limited_time(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A slow kernel does not keep a finished turn open."""

    async def never(payload: Any) -> None:  # noqa: ARG001
        await anyio.sleep_forever()

    monkeypatch.setattr(progress, "_REST_SECONDS", 0.1)
    monkeypatch.setattr(recorder.turn, "record", never)
    recorder.write(b"1\n")
    with anyio.fail_after(60):
        await recorder.file.record_rest()
    assert "more than could be recorded in time" in caplog.text


async def test_links_fifos_and_folders_in_its_place_are_not_read(recorder: Recorder, tmp_path: Path) -> None:
    """And nothing hangs."""
    target = tmp_path / "target"
    target.write_text("1\n")
    makers: list[Callable[[Path], object]] = [lambda path: path.symlink_to(target), os.mkfifo, Path.mkdir]
    for make in makers:
        make(recorder.path)
        with anyio.fail_after(60):
            await recorder.file.record_rest()
        recorder.path.rmdir() if recorder.path.is_dir() else recorder.path.unlink()
    assert recorder.taken == []
