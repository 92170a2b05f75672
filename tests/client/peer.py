"""A kernel of one answer: it keeps what was asked and says what the test told it to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from cgworker import AdmissionClient, AgentRef, KernelClient

Answer = Callable[[httpx.Request], httpx.Response]

AGENT = AgentRef(project_id="p", agent_id="a")


class Peer:
    """What answers instead of a server.

    Args:
        answer: what to say to each request; an exception of httpx's is raised as if the network did it.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answer(request)

    @property
    def asked(self) -> httpx.Request:
        """The one request that came."""
        [request] = self.requests
        return request

    @property
    def body(self) -> Any:
        """The JSON of that request; None without a body."""
        return json.loads(self.asked.content) if self.asked.content else None

    def connections(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self))

    def kernel(self) -> KernelClient:
        return KernelClient("http://kernel:8000/", agent=AGENT, token="cgac_x.y", http=self.connections())

    def admission(self) -> AdmissionClient:
        return AdmissionClient("http://kernel:8000", token="bearer", http=self.connections())
