"""Whatever is sent to any route, no answer is a 5xx (decision 1): requests drawn from our own description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from cgworker.kernel.app import ROUTES
from cgworker.kernel.config import KernelConfig
from cgworker.kernel.openapi import describe
from cgworker.kernel.operation import Operation
from tests.kernel.served import BEARER, PROJECT, Served, a_served_kernel, its_admission

OPERATIONS = [row for row in [*ROUTES, *its_admission(KernelConfig())] if isinstance(row, Operation)]
SCHEMA = schemathesis.openapi.from_dict(describe(OPERATIONS, KernelConfig()))

# What random text would never hit; with these a request gets past the first check of who and where.
KNOWN = {"project_id": PROJECT, "requested_agent_id": "worker", "turn_id": "T-1", "credential": "cgac_a.b"}

fuzzed = settings(
    max_examples=12,
    phases=(Phase.generate,),  # what is found here is found as it is; shrinking takes longer than reading it
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


@pytest.mark.parametrize("caller", ["worker", "admin-service"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda row: f"{row.method} {row.path}")
def test_no_request_gets_a_5xx(
    served: Served, session: requests.Session, operation: Operation, caller: str
) -> None:
    """Good and bad requests alike, from an agent and from one that may do everything."""
    drawn = SCHEMA[operation.path][operation.method]
    headers = dict(served.callers[caller])
    if operation.path.startswith("/admin"):
        headers = {"Authorization": f"Bearer {BEARER}"}

    @fuzzed
    @given(
        case=st.one_of([drawn.as_strategy(generation_mode=mode) for mode in GenerationMode]),
        agent_id=st.sampled_from(["worker", "admin-service"]),
        is_known=st.booleans(),
    )
    def send(case: schemathesis.Case[Any], agent_id: str, is_known: bool) -> None:
        if is_known:
            known = KNOWN | {"agent_id": agent_id}
            case.path_parameters = _knowing(case.path_parameters, known)
            case.body = _knowing(case.body, known)
        response = case.call(base_url=served.base_url, headers=headers, session=session, timeout=20)
        assert response.status_code < 500, case.as_curl_command() + "\n" + response.text

    send()


def _knowing(value: Any, known: Mapping[str, str]) -> Any:
    """The value with the ids that it has replaced by known ones."""
    if isinstance(value, Mapping):
        return {name: known.get(name) or _knowing(inner, known) for name, inner in value.items()}
    return [_knowing(inner, known) for inner in value] if isinstance(value, list) else value
