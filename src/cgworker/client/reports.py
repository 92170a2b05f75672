"""Calls about work-memory reports (wire 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cgworker.client.paths import agent_path
from cgworker.wire.converter import structure_answer
from cgworker.wire.refs import AgentRef
from cgworker.wire.reports import Report, SubmittedReport

if TYPE_CHECKING:
    from cgworker.client.kernel import KernelClient


class ReportCalls:
    """Calls about work-memory reports, as `kernel.reports`; see `KernelClient` for what they raise."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def submit(self, agent: AgentRef, report: Report | Mapping[str, Any]) -> SubmittedReport:
        """Put work that was done elsewhere on record; repeating it with equal content changes nothing.

        Args:
            agent: the calling agent.
            report: the manifest; a mapping is sent as it is, and the kernel checks it.

        Returns:
            The turn that records the work, and whether it existed already.

        Raises:
            ConflictError: the report's fault, for instance a `request_id` of another report.
            InvalidRequest: the report does not have the form of a manifest.
        """
        answer = await self._kernel.send("POST", agent_path(agent, "/work-memory-reports"), body=report)
        return structure_answer(SubmittedReport, answer.body)
