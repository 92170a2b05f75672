"""Show what agents offer as MCP tools."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from attrs import frozen
from mcp_types import Tool

from cgworker.client import KernelClient
from cgworker.durable.contract import faults_of
from cgworker.errors import InvalidRequest, UsageError
from cgworker.events import logger
from cgworker.wire.projections import OfferEntry

MAX_TOOLS = 500  # the largest page of a projection, which has no next page
_MAX_NAME = 64  # models refuse longer names of tools
_WRAPPED = "input"  # the argument that holds an input that is not an object
_ANY_TEXT: Mapping[str, Any] = {"type": "object", "properties": {"text": {"type": "string"}}}


@frozen(kw_only=True)
class OfferedTool:
    """An agent's offer as a tool.

    Attributes:
        tool: the tool, as clients see it.
        agent_id: the agent.
        turn_kind: the kind of the turns that calls become.
        is_wrapped: whether the turn's input is the value of the argument `input`.
    """

    tool: Tool
    agent_id: str
    turn_kind: str
    is_wrapped: bool

    def input_of(self, arguments: Mapping[str, Any]) -> Any:
        """Return the turn's input.

        Args:
            arguments: the arguments of a call, without faults.
        """
        return arguments.get(_WRAPPED) if self.is_wrapped else dict(arguments)

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Check the arguments of a call against the tool's schema.

        Args:
            arguments: the arguments.

        Raises:
            InvalidRequest: they do not match it; the faults say where.
        """
        try:
            faults = faults_of(dict(arguments), self.tool.input_schema)
        except UsageError:  # a schema that cannot be checked here: the agent decides
            return
        if faults:
            raise InvalidRequest([{**each, "loc": ["arguments", *each["loc"][1:]]} for each in faults])


async def offered_tools(kernel: KernelClient, project_id: str) -> dict[str, OfferedTool]:
    """Return the tools of a project, by name: one for each turn kind that an enabled agent offers.

    Args:
        kernel: makes the call.
        project_id: the project.

    Raises:
        KernelRefused: the kernel refused the call.
        KernelTrouble: the kernel gave no usable answer.
    """
    page = await kernel.projections.turn_offers(project_id, enabled_only=True, limit=MAX_TOOLS)
    if len(page.items) == MAX_TOOLS:
        _warn_of_the_rest(project_id)
    return tools_of(page.items)


@lru_cache
def _warn_of_the_rest(project_id: str) -> None:
    """Warn once for each project."""
    logger.warning(
        "%s has %d offers or more; MCP clients see the first %d, by turn kind and agent",
        project_id,
        MAX_TOOLS,
        MAX_TOOLS,
    )


def tools_of(offers: Iterable[OfferEntry]) -> dict[str, OfferedTool]:
    """Return offers as tools, by name.

    A tool has its agent's name, with the kind behind it if the agent offers several. Characters that models
    do not take in the names of tools become `_`.

    Args:
        offers: the offers.
    """
    offers = list(offers)
    offers_of_agent = Counter(offer.agent_id for offer in offers)
    plain = {
        (offer.agent_id, offer.turn_kind): _spelled(
            offer.agent_id if offers_of_agent[offer.agent_id] == 1 else f"{offer.agent_id}__{offer.turn_kind}"
        )
        for offer in offers
    }
    uses = Counter(plain.values())
    tools = {}
    for offer in offers:
        name = plain[offer.agent_id, offer.turn_kind]
        if uses[name] > 1 or len(name) > _MAX_NAME:
            digest = hashlib.sha256(f"{offer.agent_id}\n{offer.turn_kind}".encode()).hexdigest()[:8]
            name = f"{name[: _MAX_NAME - 9]}_{digest}"
        tools[name] = _tool(name, offer)
    return tools


def _spelled(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _tool(name: str, offer: OfferEntry) -> OfferedTool:
    schema = offer.input_contract.get("json_schema")
    schema = dict(schema) if isinstance(schema, Mapping) and schema else dict(_ANY_TEXT)
    is_wrapped = not _is_object(schema)
    if is_wrapped:  # MCP takes objects only; definitions stay where references look for them
        definitions = {key: schema.pop(key) for key in ("$defs", "definitions") if key in schema}
        schema = {"properties": {_WRAPPED: schema}, "required": [_WRAPPED], **definitions}
    purpose = offer.purpose or offer.agent_description or f"Takes turns of kind {offer.turn_kind}."
    return OfferedTool(
        tool=Tool(name=name, description=purpose, input_schema={"type": "object", **schema}),
        agent_id=offer.agent_id,
        turn_kind=offer.turn_kind,
        is_wrapped=is_wrapped,
    )


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Return True if a schema takes objects only, by itself or by the definition that it refers to."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        definitions = schema.get("$defs")
        found = (
            definitions.get(reference.removeprefix("#/$defs/")) if isinstance(definitions, Mapping) else None
        )
        return isinstance(found, Mapping) and found.get("type") == "object"
    return schema.get("type") == "object" or "properties" in schema
