"""The words that name what a command is about: one word for people, or a flag as scripts type it."""

from __future__ import annotations

from typing import Annotated

from attrs import frozen

from cgworker.cli.options import Argument, Flag
from cgworker.errors import UsageError
from cgworker.profiles import non_blank


@frozen(kw_only=True)
class TurnFlags:
    """The words that name a turn: `cg turn get T-7`, or `--turn-id T-7` as scripts type it."""

    turn: Annotated[str | None, Argument(metavar="TURN", help="The turn, such as T-7.", completes="turn")] = (
        None
    )
    turn_flag: Annotated[
        str | None, Flag("--turn-id", metavar="TURN", help="The turn, as a flag.", completes="turn")
    ] = None

    @property
    def id(self) -> str:
        """The turn's id.

        Raises:
            UsageError: none is given, or two that differ.
        """
        return one_of(self.turn, self.turn_flag, "a TURN, such as T-7")


@frozen(kw_only=True)
class AgentFlags:
    """The words that name an agent: `cg agent get desk`, or `--agent-id desk` as scripts type it."""

    agent: Annotated[str | None, Argument(metavar="AGENT", help="The agent.", completes="agent")] = None
    agent_flag: Annotated[
        str | None, Flag("--agent-id", metavar="AGENT", help="The agent, as a flag.", completes="agent")
    ] = None

    @property
    def id(self) -> str:
        """The agent's id.

        Raises:
            UsageError: none is given, or two that differ.
        """
        return one_of(self.agent, self.agent_flag, "an AGENT")


def one_of(positional: str | None, flag: str | None, what: str) -> str:
    """Return what a word and a flag name together.

    Args:
        positional: the word, if it is given.
        flag: the flag's value, if it is given.
        what: what they name, for the message of a failure.

    Raises:
        UsageError: neither is given, or two that differ.
    """
    given = {word for word in (non_blank(positional), non_blank(flag)) if word}
    if len(given) != 1:
        raise UsageError(f"give {what}" if not given else f"give {what}, once: {', '.join(sorted(given))}")
    return given.pop()
