"""The durable parts of a turn, each made on first use: most turns need none of them."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

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
from cgworker.lease import Lease
from cgworker.wire.turns import TurnSnapshot


@define(eq=False, slots=False)
class Parts:
    """The parts of one attempt at a turn. They know nothing of the turn: that would be a reference cycle.

    Attributes:
        journal: the records and events of the turn.
        waits: what the turn waits for.
        turn: the turn as it was when it was claimed.
        private_settings: where these are.
        kernel: makes calls under the agent's identity.
        lease: the lease of the claim held.
        attempt: the number of the attempt.
    """

    journal: Journal
    waits: Waits
    turn: TurnSnapshot
    private_settings: PrivateSettings
    kernel: KernelClient
    lease: Lease
    attempt: int

    @cached_property
    def steps(self) -> Steps:
        """The steps of the turn."""
        return Steps(self.journal, self.private)

    @cached_property
    def private(self) -> PrivateValues:
        """The private values of the turn."""
        return PrivateValues(self.turn, self.private_settings, self.journal, self.waits, attempt=self.attempt)

    @property
    def may_have_private(self) -> bool:
        """Whether the turn may have private values. Most have none, and nothing is made to find that out."""
        if "private" in vars(self):
            return self.private.may_exist
        if self.attempt == 1 and self.journal.has_input_alone:
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
