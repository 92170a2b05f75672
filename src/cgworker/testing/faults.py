"""Inject faults: lost requests and answers, delays, error answers, stolen leases.

A verb is one of claim, renew, reconcile, dispatch, append, finish, suspend, resume, stop, tell, redo,
presence, context, get, feed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Literal

from attrs import define
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cgworker.testing.plain import answer_plainly
from cgworker.testing.verbs import project_of, verb_of
from cgworker.wire.refs import TurnRef

Kind = Literal["drop_request", "drop_response", "delay", "delay_response", "answer"]


@define
class _Fault:
    kind: Kind
    verb: str
    times: int
    seconds: float = 0.0
    status: int = 503


class Faults:
    """Faults of a kernel, by verb; each fault ends after a number of requests.

    Attributes:
        seen: how many requests of each verb arrived, including those with a fault.
    """

    def __init__(self, end_lease: Callable[[TurnRef], Awaitable[None]]) -> None:
        self._end_lease = end_lease
        self._planned: list[_Fault] = []
        self._is_plain = False
        self.seen: Counter[str] = Counter()

    def drop_request(self, verb: str, times: int = 1) -> None:
        """Break the connection before the request is carried out.

        Args:
            verb: the verb of the requests.
            times: how many requests.
        """
        self._planned.append(_Fault("drop_request", verb, times))

    def drop_response(self, verb: str, times: int = 1) -> None:
        """Carry out the request, and break the connection before its answer.

        Args:
            verb: the verb of the requests.
            times: how many requests.
        """
        self._planned.append(_Fault("drop_response", verb, times))

    def delay(self, verb: str, seconds: float, times: int = 1) -> None:
        """Delay carrying out the request.

        Args:
            verb: the verb of the requests.
            seconds: the delay.
            times: how many requests.
        """
        self._planned.append(_Fault("delay", verb, times, seconds=seconds))

    def delay_response(self, verb: str, seconds: float, times: int = 1) -> None:
        """Carry out the request, and delay its answer.

        Args:
            verb: the verb of the requests.
            seconds: the delay.
            times: how many requests.
        """
        self._planned.append(_Fault("delay_response", verb, times, seconds=seconds))

    def answer(self, verb: str, status: int = 503, times: int = 1) -> None:
        """Answer with a status instead of carrying out the request.

        Args:
            verb: the verb of the requests.
            status: the HTTP status.
            times: how many requests.
        """
        self._planned.append(_Fault("answer", verb, times, status=status))

    async def steal_lease(self, turn: TurnRef) -> None:
        """End the lease of a running turn, as if its holder had been away for too long.

        Args:
            turn: the turn.
        """
        await self._end_lease(turn)

    def ignore_preferences(self) -> None:
        """From now on, behave like the reference's kernel.

        It does not wait for news, sends no context with a claim, ignores idempotency keys, has no
        routes for many items, and wakes no turns (see `plain.py`).
        """
        self._is_plain = True

    def clear(self) -> None:
        """Remove all faults."""
        self._is_plain = False
        self._planned.clear()

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application that applies these faults to the requests of another one.

        Args:
            app: the kernel's application.
        """

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            verb = verb_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
            if verb is not None:
                self.seen[verb] += 1
            is_plain = self._is_plain and scope["type"] == "http"
            served = partial(answer_plainly, app, verb) if is_plain else app
            await _play(self._take(verb), served, scope, receive, send)

        return faulty

    def _take(self, verb: str | None) -> _Fault | None:
        for fault in self._planned:
            if fault.verb == verb:
                fault.times -= 1
                if fault.times <= 0:
                    self._planned.remove(fault)
                return fault
        return None


def per_project(faults: Mapping[str, Faults], app: ASGIApp) -> ASGIApp:
    """Return an application that applies to each request the faults of its project.

    Args:
        faults: the faults by the project's id; projects may be added later.
        app: the kernel's application.
    """

    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        planned = faults.get(project_of(scope.get("path", "")))
        asked = app if planned is None else planned.wrap(app)
        await asked(scope, receive, send)

    return faulty


async def _play(fault: _Fault | None, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    match fault:
        case None:
            await app(scope, receive, send)
        case _Fault(kind="delay"):
            await asyncio.sleep(fault.seconds)
            await app(scope, receive, send)
        case _Fault(kind="delay_response"):
            messages: list[Message] = []
            await app(scope, receive, partial(_keep, messages))
            await asyncio.sleep(fault.seconds)
            for message in messages:
                await send(message)
        case _Fault(kind="answer"):
            await Response(status_code=fault.status)(scope, receive, send)
        case _Fault(kind="drop_request"):
            await _break_connection(send)
        case _Fault(kind="drop_response"):
            await app(scope, receive, _swallow)
            await _break_connection(send)


async def _keep(messages: list[Message], message: Message) -> None:
    messages.append(message)


async def _swallow(_: Message) -> None:
    pass


async def _break_connection(send: Send) -> None:
    """Announce a body and send none, so that the server must close the connection."""
    headers = [(b"content-length", b"1000000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
