"""What a worker handles, told to others: an offer for each kind of turn, with the schema of its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from cgworker.errors import UsageError
from cgworker.handlers import FunctionHandler, Handler
from cgworker.wire.schemas import json_schema
from cgworker.worker.worker import Worker

_CALLING: Mapping[str, Any] = {
    "operation": "dispatch",
    "authority_modes": [
        {"mode": "root_request", "required_authority": ["trusted_requester_identity"]},
        {
            "mode": "child_derivation",
            "required_authority": ["active_parent_claim"],
            "binds_cause_to_current_turn": True,
        },
    ],
}


@frozen(kw_only=True)
class PublishedOffer:
    """A kind of turn that an agent now offers.

    Attributes:
        project_id: the agent's project.
        agent_id: who offers it.
        turn_kind: what is offered.
        required_fields: what the input must have.
        has_capability: whether the agent may be given such turns; offers of other kinds are not listed.
    """

    project_id: str
    agent_id: str
    turn_kind: str
    required_fields: tuple[str, ...]
    has_capability: bool


async def publish_offers(worker: Worker) -> tuple[PublishedOffer, ...]:
    """Offer each kind that has a handler of its own; what else the agent's metadata and offers say stays.

    Raises:
        UsageError: there is no such kind.
        KernelRefused, KernelTrouble: the metadata could not be read or replaced.
    """
    if not worker.handlers:
        raise UsageError(f"{worker!r} has no handler for a kind of its own: @worker.turn(kind) names one")
    agent = await worker.kernel.agents.get(worker.agent)
    offers = {offer["turn_kind"]: offer for offer in agent.public_metadata.get("turn_offers") or ()}
    for kind, handler in worker.handlers.items():
        offers[kind] = _offer(kind, handler, offers.get(kind, {}))
    metadata = {**agent.public_metadata, "turn_offers": list(offers.values())}
    await worker.kernel.agents.replace_metadata(worker.agent, metadata)
    return tuple(
        PublishedOffer(
            project_id=worker.agent.project_id,
            agent_id=worker.agent.agent_id,
            turn_kind=kind,
            required_fields=tuple(offers[kind]["input_contract"]["required_fields"]),
            has_capability=kind in agent.capabilities,
        )
        for kind in worker.handlers
    )


def _offer(kind: str, handler: Handler, before: Mapping[str, Any]) -> dict[str, Any]:
    """The offer, over what was offered before for this kind."""
    schema, purpose = _input_of(handler)
    contract = {"required_fields": _required_by(schema), "json_schema": schema}
    return {
        "calling": _CALLING,
        "variants": {},
        "notes": None,
        **before,
        "turn_kind": kind,
        "purpose": purpose or before.get("purpose"),
        "input_contract": {**before.get("input_contract", {}), **contract},
    }


def _input_of(handler: Handler) -> tuple[dict[str, Any], str | None]:
    """The schema of its input, and what it is for; commands and the like take anything."""
    if not isinstance(handler, FunctionHandler):
        return {}, None
    return json_schema(handler.signature.input_type), handler.signature.purpose


def _required_by(schema: Mapping[str, Any]) -> list[str]:
    name = schema.get("$ref", "").rpartition("/")[2]
    required: list[str] = schema["$defs"][name]["required"] if name else []
    return required
