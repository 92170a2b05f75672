"""Offer a CommonGround agent to AG-UI clients, such as chat interfaces: `cgworker[ag-ui]`.

The server keeps no state: a run is a turn, a question ends a run as an interrupt, and the run that resumes it
follows the same turn.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from ag_ui.core import BaseEvent, RunAgentInput, RunErrorEvent, RunStartedEvent
from ag_ui.encoder import EventEncoder
from attrs import frozen
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cgworker.adapters.ag_ui_events import RunEvents
from cgworker.adapters.ag_ui_resume import resume_turn, turn_id_in
from cgworker.adapters.turn_watch import until_answered, watch_turn
from cgworker.adapters.users import user_id_of
from cgworker.client import KernelClient
from cgworker.client.turns import require_agent
from cgworker.errors import CommonGroundError, NotFoundError
from cgworker.wire.converter import dumps
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.wire.turns import CONVERSATION_KIND, Dispatch, RootRequest

_LOOPBACK = ("127.0.0.1", "localhost")
_PING = ": nothing new\n\n"

logger: logging.Logger = logging.getLogger("cgworker.ag_ui")


def input_of(run: RunAgentInput) -> Any:
    """Return the turn's input for a run: `{"text": ...}` with the text of the last message of the user.

    Args:
        run: the run.
    """
    for message in reversed(run.messages):
        if message.role == "user":
            content = message.content
            if isinstance(content, str):
                return {"text": content}
            return {"text": "".join(part.text for part in content if part.type == "text")}
    return {"text": ""}


def ag_ui_app(
    kernel: KernelClient,
    agent_id: str,
    *,
    bearer: str | None = None,
    kind: str = CONVERSATION_KIND,
    input: Callable[[RunAgentInput], Any] = input_of,
    middleware: Sequence[Middleware] = (),
    allowed_hosts: Sequence[str] = (),
    max_bytes: int = 4 * 1024 * 1024,
) -> Starlette:
    """Make an application that offers an agent to AG-UI clients, by POST to its root.

    Serve it with `uvicorn.run(ag_ui_app(kernel, "desk", bearer=...))`. Text that the handler streams comes as
    it is written, tool calls and records of the role `state` as they are recorded. A question ends the run as
    an interrupt, and a resume entry of the next run answers it. A client that leaves stops nothing: it gets
    all events again by the same run id.

    Args:
        kernel: makes calls under the agent that dispatches the turns, which needs the grant
            `turn.resume.any` for answers. The caller closes the client.
        agent_id: the agent that gets the turns, in the same project.
        bearer: the secret that clients present; with None the application accepts everyone who can reach it,
            or whom `middleware` accepts.
        kind: the kind of the turns.
        input: returns the turn's input for a run; by default the text of the user's last message.
        middleware: the application's middleware, such as Starlette's for CORS, or for authentication: then
            each user has threads of their own.
        allowed_hosts: host names that the application answers to, besides loopback names.
        max_bytes: the largest body of a request; a larger one gets a 413.

    Raises:
        UsageError: the caller's fault: `kernel` has no agent.
    """
    requester = require_agent(kernel)
    target = AgentRef(project_id=requester.project_id, agent_id=agent_id)
    endpoint = _AgentEndpoint(kernel, requester, target, kind, input, bearer, max_bytes)
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, *allowed_hosts])
    return Starlette(routes=[Route("/", endpoint.handle, methods=["POST"])], middleware=[hosts, *middleware])


@frozen
class _AgentEndpoint:
    """Handles the requests of AG-UI clients to the agent."""

    _kernel: KernelClient
    _requester: AgentRef
    _target: AgentRef
    _kind: str
    _input: Callable[[RunAgentInput], Any]
    _bearer: str | None
    _max_bytes: int

    async def handle(self, request: Request) -> Response:
        """Read a run, and stream its events."""
        if not self._is_known(request):
            headers = {"WWW-Authenticate": "Bearer", "Connection": "close"}
            return PlainTextResponse("a known bearer is needed", 401, headers)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return PlainTextResponse("a run is application/json", 415)  # so a page of another origin must ask
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._max_bytes:
                said = f"a body may have {self._max_bytes:,} bytes"
                return PlainTextResponse(said, 413, {"Connection": "close"})
        try:
            run = RunAgentInput.model_validate_json(bytes(body))
        except ValidationError as invalid:
            faults = invalid.errors(include_url=False, include_input=False, include_context=False)
            return JSONResponse({"detail": faults[:50]}, 422)
        encoder = EventEncoder(accept=request.headers.get("accept", ""))
        events = self._events(run, user_id_of(request.scope.get("user")), encoder)
        return StreamingResponse(events, media_type=encoder.get_content_type())

    def _is_known(self, request: Request) -> bool:
        user = request.scope.get("user")
        if user is not None and not user.is_authenticated:
            return False
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        return self._bearer is None or (
            kind.lower() == "bearer" and hmac.compare_digest(secret.encode(), self._bearer.encode())
        )

    async def _events(self, run: RunAgentInput, user: str, encoder: EventEncoder) -> AsyncIterator[str]:
        yield encoder.encode(RunStartedEvent(thread_id=run.thread_id, run_id=run.run_id))
        try:
            async with aclosing(self._follow(run, user)) as followed:
                async for event in followed:
                    yield _PING if event is None else encoder.encode(event)
        except CommonGroundError as refused:
            yield encoder.encode(RunErrorEvent(message=str(refused), code=refused.code))
        except Exception:
            logger.exception("an AG-UI run failed")
            yield encoder.encode(RunErrorEvent(message="The server failed.", code="internal_error"))

    async def _follow(self, run: RunAgentInput, user: str) -> AsyncGenerator[BaseEvent | None, None]:
        """Yield the run's events after its start; None when there is nothing new for a while."""
        owner = hashlib.sha256(
            dumps([str(self._requester), str(self._target), self._kind, user, run.thread_id])
        )
        prefix, after = f"ag-ui:{owner.hexdigest()[:24]}:", 0
        if run.resume:
            turn = await self._find(turn_id_in(run.resume), prefix)
            after = await resume_turn(self._kernel, turn, run.resume)
        else:
            key = prefix + hashlib.sha256(run.run_id.encode()).hexdigest()[:32]
            turn = await self._dispatch(run, key)
        events = RunEvents(run.thread_id, run.run_id, turn.turn_id)
        watched = watch_turn(self._kernel, turn, after_turn_seq=after, with_pauses=True)
        async with aclosing(watched):
            async for news in watched:
                for item in news.items:
                    for event in events.of(item):
                        yield event
                ending = list(events.end(news))
                for event in ending:
                    yield event
                if ending:
                    return
                if not news.items:
                    yield None

    async def _dispatch(self, run: RunAgentInput, key: str) -> TurnRef:
        dispatch = Dispatch(
            requested_by=self._requester,
            target_agent=self._target,
            input=self._input(run),
            turn_kind=self._kind,
            dispatch_key=key,
            authority=RootRequest(request_id=key),
        )
        return await until_answered(lambda: self._kernel.turns.dispatch(dispatch))

    async def _find(self, turn_id: str, prefix: str) -> TurnRef:
        """Return the turn if it belongs to this user's thread."""
        turn = TurnRef(project_id=self._target.project_id, turn_id=turn_id)
        if len(turn_id) <= 200:  # a longer one would not fit into an address
            snapshot = await until_answered(lambda: self._kernel.turns.get(turn))
            if snapshot.spawn_key.startswith(prefix):
                return turn
        raise NotFoundError("this thread has no such interrupt")
