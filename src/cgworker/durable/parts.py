"""The durable parts of a turn, each made on first use: most turns need none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property
from typing import Any

from attrs import define

from cgworker.client import KernelClient
from cgworker.durable.children import Children
from cgworker.durable.journal import Journal
from cgworker.durable.messages import Messages
from cgworker.durable.private import PrivateSettings, PrivateValues, may_exist_already
from cgworker.durable.questions import Questions
from cgworker.durable.sleeps import Sleeps
from cgworker.durable.steps import Steps
from cgworker.durable.waits import Waits
from cgworker.durable.write_behind import StartSoon
from cgworker.lease import Lease
from cgworker.wire.records import TurnContext


@define(eq=False, slots=False)
class Parts:
    """The parts of one attempt at a turn. They know nothing of the turn: that would be a reference cycle.

    Attributes:
        kernel: makes calls under the agent's identity.
        lease: the lease of the claim held.
        context: the turn as it was when it was claimed, and the first page of its records.
        attempt: the number of the attempt.
        page_size: how many records to request per further page.
        more_records: whether there may be records after those in `context`.
        now: returns the kernel's current time.
        private_settings: where private values are.
        start_soon: starts a task that outlives the handler; None if there is nothing that could.
    """

    kernel: KernelClient
    lease: Lease
    context: TurnContext
    attempt: int
    page_size: int
    more_records: bool
    now: Callable[[], Awaitable[datetime]]
    private_settings: PrivateSettings
    start_soon: StartSoon | None

    @cached_property
    def journal(self) -> Journal:
        """The records and events of the turn."""
        return Journal(
            self.kernel,
            self.lease,
            self.context,
            page_size=self.page_size,
            more_records=self.more_records,
            start_soon=self.start_soon,
        )

    @cached_property
    def waits(self) -> Waits:
        """What the turn waits for."""
        return Waits(self.now)

    @property
    def input(self) -> Any:
        """The payload of the turn's first record; None if it has no records."""
        records = self.context.semantic_items
        return records[0].payload if records else None

    @cached_property
    def steps(self) -> Steps:
        """The steps of the turn."""
        return Steps(self.journal, self.private)

    @cached_property
    def private(self) -> PrivateValues:
        """The private values of the turn."""
        settings = self.private_settings
        return PrivateValues(self.context.turn, settings, self.journal, self.waits, attempt=self.attempt)

    @property
    def may_have_private(self) -> bool:
        """Whether the turn may have private values. Most have none, and nothing is made to find that out."""
        if "private" in vars(self):
            return self.private.may_exist
        has_input_alone = not self.more_records and len(self.context.semantic_items) <= 1
        if self.attempt == 1 and has_input_alone:
            return False
        return may_exist_already(self.journal, self.attempt)

    @cached_property
    def step_counts(self) -> Counter[str]:
        """How many keys `step_key` has given for each name."""
        return Counter()

    @cached_property
    def children(self) -> Children:
        """The children of the turn."""
        return Children(self.journal, self.kernel, self.lease, self.waits)

    @cached_property
    def messages(self) -> Messages:
        """The messages to the turn."""
        return Messages(self.journal)

    @cached_property
    def questions(self) -> Questions:
        """The questions of the turn."""
        return Questions(self.journal, self.waits)

    @cached_property
    def sleeps(self) -> Sleeps:
        """The sleeps of the turn."""
        return Sleeps(self.journal, self.waits)
