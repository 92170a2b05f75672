"""Publish what a worker handles: an offer for each turn kind, with the schema of its input."""

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
    """A turn kind that an agent now offers.

    Attributes:
        project_id: the agent's project.
        agent_id: the agent.
        turn_kind: the kind.
        required_fields: the fields that the input must have.
        has_capability: whether the agent has the capability for the kind; without it the offer is not listed.
    """

    project_id: str
    agent_id: str
    turn_kind: str
    required_fields: tuple[str, ...]
    has_capability: bool


async def publish_offers(worker: Worker) -> tuple[PublishedOffer, ...]:
    """Publish an offer for each kind that has a handler of its own; other metadata and offers stay.

    Args:
        worker: the worker; its agent's public metadata is replaced.

    Returns:
        The offers, in the order of the handlers.

    Raises:
        UsageError: no kind has a handler of its own.
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
    """Return the offer of a kind, which keeps what an earlier offer of it says besides."""
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
    """Return the schema of a handler's input and its purpose; only functions declare them."""
    if not isinstance(handler, FunctionHandler):
        return {}, None
    return json_schema(handler.signature.input_type), handler.signature.purpose


def _required_by(schema: Mapping[str, Any]) -> list[str]:
    name = schema.get("$ref", "").rpartition("/")[2]
    required: list[str] = schema["$defs"][name]["required"] if name else []
    return required
