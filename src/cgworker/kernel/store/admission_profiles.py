"""Admission profiles: the kinds of agents that are admitted, and what each is registered as (admission 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cgworker.errors import ConflictError
from cgworker.kernel.store.agent_specs import canonical_hash, normal_set, normal_spec, spec_hash
from cgworker.wire.admission import REPORTER_PROFILE, WORKER_PROFILE
from cgworker.wire.agents import AgentSpec, Provenance

PROFILE_KINDS = (REPORTER_PROFILE, WORKER_PROFILE)

_REPORTER_ROLE = "external.agent.v1"
_WORKER_ROLE = "external.conversation_worker.v1"
_REPORT_CAPABILITY = "turn.work_memory_report.v1"
_CONVERSATION = "turn.conversation.v1"

_OFFER: Mapping[str, Any] = {
    "turn_kind": _CONVERSATION,
    "purpose": "Handle a general conversation turn and return the final deliverable.",
    "calling": {
        "operation": "dispatch",
        "authority_modes": [
            {"mode": "root_request", "required_authority": ["trusted_requester_identity"]},
            {
                "mode": "child_derivation",
                "required_authority": ["active_parent_claim"],
                "binds_cause_to_current_turn": True,
            },
        ],
    },
    "input_contract": {
        "required_fields": [],
        "example_payload": {"task": "Summarize the latest status."},
    },
    "variants": {},
    "notes": "Conversation-specific stop/resume/finish semantics remain turn-owned semantics.",
}


@frozen(kw_only=True)
class Admission:
    """A trimmed request to admit an agent, with its approval.

    `invite_id` is the invite or invitation that approves it; None for the operator's bearer.
    """

    request_id: str
    project_id: str
    agent_id: str
    display_name: str
    runtime_kind: str
    profile_kind: str
    description: str | None = None
    requested_role: str = _REPORTER_ROLE
    requested_capabilities: tuple[str, ...] = (_REPORT_CAPABILITY,)
    capacity: int = 1
    grants: tuple[str, ...] = ()
    approved_by: str
    invite_id: str | None = None


def check_policy(admission: Admission) -> None:
    """Refuse a reporter that asks for more than reporters get; a worker's wishes are ignored.

    Raises:
        ConflictError: in the order and words of admission 4.1.
    """
    if admission.profile_kind != REPORTER_PROFILE:
        return
    if admission.requested_role != _REPORTER_ROLE:
        raise ConflictError(f"unsupported BYOA requested_role: {admission.requested_role}")
    asked = set(admission.requested_capabilities)
    if unsupported := asked - {_REPORT_CAPABILITY}:
        named = ", ".join(sorted(unsupported))
        raise ConflictError(f"unsupported BYOA requested_capability: {named}")


def registration_of(admission: Admission) -> tuple[AgentSpec, Provenance]:
    """Return the spec that the agent is registered with, and its provenance."""
    is_worker = admission.profile_kind == WORKER_PROFILE
    spec = normal_spec(
        AgentSpec(
            agent_id=admission.agent_id,
            role=_WORKER_ROLE if is_worker else _REPORTER_ROLE,
            description=admission.description,
            accepts_work=is_worker,
            capacity=admission.capacity,
            capabilities=(_CONVERSATION,) if is_worker else (),
            grants=normal_set(admission.grants),
            public_metadata=_metadata_of(admission, is_worker=is_worker),
        )
    )
    provenance = Provenance(
        kind="admin_service.byoa_registration.v1",
        external_ref=admission.request_id,
        payload_hash=canonical_hash(_approval_of(admission, spec)),
    )
    return spec, provenance


def _metadata_of(admission: Admission, *, is_worker: bool) -> dict[str, Any]:
    admitted_as = {"byoa_request_id": admission.request_id, "runtime_kind": admission.runtime_kind}
    label = {"label": admission.display_name}
    if not is_worker:
        return {"ui": label, "admin_service": admitted_as}
    return {
        "ui": label,
        "admin_service": {**admitted_as, "profile_kind": admission.profile_kind},
        "turn_offers": [_OFFER],
    }


def _approval_of(admission: Admission, spec: AgentSpec) -> dict[str, Any]:
    approval = {
        "kind": "admin_service.byoa_registration.approval.v1",
        "request_id": admission.request_id,
        "project_id": admission.project_id,
        "requested_agent_id": admission.agent_id,
        "approved_by": admission.approved_by,
        "policy_version": "mvp.v1",
        "admitted_spec_hash": spec_hash(spec),
    }
    if admission.invite_id is None:
        return approval
    return {
        **approval,
        "approval_mode": "invite_code.auto_approval.v1",
        "invite_id": admission.invite_id,
        "issued_by_user_id": admission.approved_by,
        "profile_kind": admission.profile_kind,
    }
