"""Names of the version before still work, and warn of the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import evolve

import cgworker
from cgworker import AgentRef, CommandHandler, KernelClient, Turn, Worker, WorkerOptions, events
from cgworker.adapters.a2a_server import a2a_app
from cgworker.adapters.nanobot import NanobotAdapter
from cgworker.adapters.openai import ChatAdapter
from cgworker.wire.turns import Dispatch, RootRequest


def make_worker() -> Worker:
    """A worker that talks to no kernel."""
    agent = AgentRef(project_id="acme", agent_id="desk")
    return Worker(KernelClient("http://kernel.invalid", agent=agent, token="t"))


@pytest.mark.parametrize("old", ["outbox_most_bytes", "most_payload_bytes"])
def test_options_take_old_names(old: str) -> None:
    """The value counts, is read by either name, and the warning names the new one."""
    new = old.replace("most", "max")
    with pytest.warns(DeprecationWarning, match=rf"WorkerOptions\({old}=\).*use {new}=") as caught:
        options = WorkerOptions(**cast("dict[str, Any]", {old: 5}))
    assert caught[0].filename == __file__
    assert getattr(options, new) == 5
    assert options == WorkerOptions(**cast("dict[str, Any]", {new: 5}))
    with pytest.warns(DeprecationWarning, match=f"use {new}"):
        assert getattr(options, old) == 5
    with pytest.raises(ValueError, match="> 0"):
        WorkerOptions(**cast("dict[str, Any]", {old: 0}))


def test_changed_options_do_not_warn_again() -> None:
    """`evolve` of options that were made by an old name keeps their value, and a new value wins."""
    with pytest.warns(DeprecationWarning, match="use max_payload_bytes"):
        options = WorkerOptions(most_payload_bytes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evolve(options, concurrency=2).max_payload_bytes == 5
        assert evolve(options, max_payload_bytes=6).max_payload_bytes == 6


def test_a_command_handler_takes_an_old_name() -> None:
    """`most_payload_bytes` of `CommandHandler` is `max_payload_bytes`."""
    with pytest.warns(DeprecationWarning, match=r"CommandHandler\(most_.*use max_payload_bytes="):
        handler = CommandHandler(["true"], most_payload_bytes=5)
    assert handler.max_payload_bytes == 5
    with pytest.warns(DeprecationWarning, match="use max_payload_bytes"):
        assert handler.most_payload_bytes == 5


@pytest.mark.parametrize("make", [partial(ChatAdapter, model="m"), NanobotAdapter])
def test_an_adapter_takes_an_old_name(make: Callable[..., Any]) -> None:
    """`most_rounds` of adapters is `max_rounds`."""
    with pytest.warns(DeprecationWarning, match=r"Adapter\(most_rounds=\).*use max_rounds=") as caught:
        adapter = make(most_rounds=5)
    assert (caught[0].filename, adapter.max_rounds) == (__file__, 5)
    assert adapter == make(max_rounds=5)
    with pytest.warns(DeprecationWarning, match="use max_rounds"):
        assert adapter.most_rounds == 5


def test_an_a2a_server_takes_an_old_name() -> None:
    """`most_bytes` of `a2a_app` is `max_bytes`."""
    kernel = KernelClient("http://kernel.invalid", agent=AgentRef(project_id="acme", agent_id="desk"))
    with pytest.warns(DeprecationWarning, match=r"a2a_app\(most_bytes=\).*use max_bytes=") as caught:
        app = a2a_app(kernel, "desk", url="http://127.0.0.1:1/", most_bytes=5)
    assert caught[0].filename == __file__
    assert app.user_middleware[-1].kwargs == {"max_bytes": 5}


@pytest.mark.parametrize("old", ["most_characters", "most_seconds"])
def test_a_stream_takes_old_names(monkeypatch: pytest.MonkeyPatch, old: str) -> None:
    """`most_characters` and `most_seconds` of `Turn.stream` are `max_…`."""
    new = old.replace("most", "max")
    opened: dict[str, float] = {}
    monkeypatch.setattr("cgworker.turn.open_stream", lambda *_, **limits: opened.update(limits))
    turn: Any = Turn.__new__(Turn)
    vars(turn)["_parts"] = SimpleNamespace(journal=None)
    with pytest.warns(DeprecationWarning, match=rf"stream\({old}=\).*use stream\({new}=\)") as caught:
        turn.stream(**{old: 7})
    assert caught[0].filename == __file__
    assert opened[new] == 7


def test_a_drain_takes_an_old_name() -> None:
    """`drain(hurry=)` is `drain(force=)`."""
    worker, given = make_worker(), []

    class Running:
        def drain(self, *, force: bool) -> None:
            given.append(force)

    vars(worker)["_run"] = Running()
    with pytest.warns(DeprecationWarning, match=r"drain\(hurry=\).*use drain\(force=\)") as caught:
        worker.drain(hurry=True)
    assert caught[0].filename == __file__
    assert given == [True]


def test_a_worker_at_another_kernel_takes_an_old_name() -> None:
    """`Worker.at` is `Worker.with_kernel`."""
    worker = make_worker()
    with pytest.warns(DeprecationWarning, match=r"Worker.at\(\).*use Worker.with_kernel\(\)") as caught:
        other = worker.at(worker.kernel, options=WorkerOptions(concurrency=3))
    assert caught[0].filename == __file__
    assert other.options.concurrency == 3


def test_a_trace_is_carried_under_an_old_name() -> None:
    """`carry_trace` is `inject_trace`."""
    agent = AgentRef(project_id="acme", agent_id="desk")
    dispatch = Dispatch(
        requested_by=agent,
        target_agent=agent,
        input=1,
        turn_kind="k",
        dispatch_key="d",
        authority=RootRequest(request_id="r"),
    )
    with pytest.warns(DeprecationWarning, match=r"carry_trace\(\).*use inject_trace\(\)"):
        assert cgworker.carry_trace(dispatch) == cgworker.inject_trace(dispatch)


def test_an_event_has_an_old_name() -> None:
    """`events.LeaseLost` is `LeaseEnded`, because `cgworker.LeaseLost` is an error."""
    with pytest.warns(DeprecationWarning, match="use LeaseEnded") as caught:
        old = events.LeaseLost
    assert caught[0].filename == __file__
    assert old is events.LeaseEnded
    with pytest.raises(AttributeError, match="no attribute 'LeaseFound'"):
        events.LeaseFound  # noqa: B018  # it raises
