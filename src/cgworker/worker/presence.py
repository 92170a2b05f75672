"""Publish that an agent is present, which sets its `last_seen_at`."""

from __future__ import annotations

import anyio

from cgworker.client import KernelClient
from cgworker.errors import CommonGroundError
from cgworker.events import logger
from cgworker.wire.refs import AgentRef

_LAST_WORD_SECONDS = 2.0


async def publish_presence(kernel: KernelClient, agent: AgentRef, every_seconds: float) -> None:
    """Publish the presence now, at each interval, and once more when cancelled. Failures are only logged.

    Args:
        kernel: calls under the agent's identity.
        agent: the agent.
        every_seconds: the pause between two times.
    """
    try:
        while True:
            await _publish(kernel, agent)
            await anyio.sleep(every_seconds)
    finally:
        with anyio.move_on_after(_LAST_WORD_SECONDS, shield=True):
            await _publish(kernel, agent)


async def _publish(kernel: KernelClient, agent: AgentRef) -> None:
    try:
        await kernel.agents.renew_presence(agent)
    except CommonGroundError as trouble:
        logger.debug("the presence of %s could not be published: %s", agent, trouble)
