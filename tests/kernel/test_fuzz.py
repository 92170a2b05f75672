"""Whatever is sent to any route, no answer is a 5xx (difference 1): requests from our own description."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import schemathesis
from attrs import fields_dict, frozen
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from cgworker.kernel.app import ROUTES
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi.document import describe
from cgworker.kernel.openapi.operation import Operation
from tests.kernel.project import KIND
from tests.kernel.served import BEARER, PROJECT, Served, a_served_kernel, its_admission

OPERATIONS = [row for row in [*ROUTES, *its_admission(KernelConfig())] if isinstance(row, Operation)]
SCHEMA = schemathesis.openapi.from_dict(describe(OPERATIONS, KernelConfig()))

fuzzed = settings(
    max_examples=6,
    phases=(Phase.generate,),  # what is found is told as it was sent; shrinking takes longer than reading it
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.fixture(scope="module")
def served(dsn: str) -> Iterator[Served]:
    """A kernel with admission on a socket."""
    with a_served_kernel(dsn) as served:
        yield served


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that are kept."""
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("name", ["worker", "admin-service"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")
def test_no_request_gets_a_5xx(
    served: Served, session: requests.Session, operation: Operation, name: str
) -> None:
    """Good and bad requests alike, from an agent and from one that may do everything."""
    drawn = SCHEMA[operation.path][operation.method]
    caller = Caller(session, served, name)
    headers = dict(caller.headers)
    if operation.path.startswith("/admin"):
        headers = {"Authorization": f"Bearer {BEARER}"}

    @fuzzed
    @given(
        case=st.one_of([drawn.as_strategy(generation_mode=mode) for mode in GenerationMode]),
        is_informed=st.booleans(),
    )
    def send(case: schemathesis.Case[Any], is_informed: bool) -> None:
        if is_informed:
            known = caller.knowledge(needs_claim=_shows_claims(operation))
            case.path_parameters = _informed(case.path_parameters, known)
            case.body = _informed(case.body, known)
        response = case.call(base_url=served.base_url, headers=headers, session=session, timeout=20)
        assert response.status_code < 500, f"{case.as_curl_command()}\n{response.text}"

    send()


@frozen
class Caller:
    """Who sends the requests, and what it knows that random text would never hit."""

    session: requests.Session
    served: Served
    name: str

    @property
    def headers(self) -> Mapping[str, str]:
        return self.served.callers[self.name]

    def knowledge(self, *, needs_claim: bool) -> Mapping[str, Any]:
        """Ids and secrets by the names that requests have for them; a claim is a new one each time."""
        known = {
            "project_id": PROJECT,
            "agent_id": self.name,
            "turn_id": "T-1",
            "credential": self.headers["Authorization"].removeprefix("Bearer "),
        }
        if not needs_claim:
            return known
        claim = self._claim()
        return {**known, "turn_id": claim["turn_id"], "claim": claim, "parent_claim": claim}

    def _claim(self) -> Mapping[str, Any]:
        me, key = {"project_id": PROJECT, "agent_id": self.name}, secrets.token_hex(8)
        authority = {"mode": "root_request", "request_id": key}
        dispatch = {"requested_by": me, "target_agent": me, "turn_kind": KIND, "input": None}
        self._post("turns:dispatch", {**dispatch, "dispatch_key": key, "authority": authority})
        claim: Mapping[str, Any] = self._post(f"agents/{self.name}/claims:claim", {"agent": me})
        return claim

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        url = f"{self.served.base_url}/v3r1/projects/{PROJECT}/{path}"
        answer = self.session.post(url, json=body, headers=dict(self.headers), timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()


def _shows_claims(operation: Operation) -> bool:
    """Whether claims are shown in its body, alone or as items."""
    return operation.takes is not None and bool(
        {"claim", "authority", "items"} & set(fields_dict(operation.takes))
    )


def _informed(value: Any, known: Mapping[str, Any]) -> Any:
    """The value with everything in it that is known put right."""
    if isinstance(value, Mapping):
        return {
            name: known[name] if name in known else _informed(inner, known) for name, inner in value.items()
        }
    return [_informed(inner, known) for inner in value] if isinstance(value, list) else value
