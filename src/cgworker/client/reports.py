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
    """`kernel.reports`."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: KernelClient) -> None:
        self._kernel = kernel

    async def submit(self, agent: AgentRef, report: Report | Mapping[str, Any]) -> SubmittedReport:
        """Put work done elsewhere on record; a repeat with equal content changes nothing.

        Args:
            report: the manifest; a mapping is sent as it is, for the kernel to judge.
        """
        answer = await self._kernel.send("POST", agent_path(agent, "/work-memory-reports"), body=report)
        return structure_answer(SubmittedReport, answer.body)
