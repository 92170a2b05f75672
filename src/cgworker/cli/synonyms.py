"""Find the command that a person means by a word of another program, such as `cancel` or `logs`."""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNKNOWN = re.compile(r"No such command '([^']*)'")

# The commands by the words that other programs have for them, in the group that such a word is typed in.
_ROWS: Mapping[str, Mapping[str, str]] = {
    "cg": {
        "agents": "cg agent list",
        "turns list ls ps jobs job tasks task workflows workflow runs queue": "cg turn list",
        "questions approvals": "cg turn questions",
        "schedules cron crons": "cg schedule list",
        "offers kinds tools": "cg project offer list",
        "events history feed": "cg project feed",
        "status stats info watch": "cg top",
        "ui web dashboard browser open": "cg console",
        "run start up server serve init quickstart": "cg dev",
        "submit enqueue send create new execute exec invoke trigger": "cg dispatch",
        "chat prompt call": "cg ask",
        "get show describe inspect result": "cg turn get",
        "logs log tail follow": "cg turn follow",
        "wait": "cg turn wait",
        "stop cancel kill terminate abort": "cg turn stop",
        "retry redo rerun restart": "cg turn redo",
        "answer approve reply respond": "cg turn answer",
        "decline reject deny": "cg turn decline",
        "tell signal message": "cg turn tell",
        "resume": "cg turn resume",
        "why explain": "cg worker why",
        "check": "cg worker check",
        "workers": "cg worker",
        "join login": "cg agent join",
        "invite": "cg admission invite create",
        "profiles": "cg doctor",
        "purge prune clean": "cg admin purge",
        "export import backup": "cg admin",
    },
    "cg turn": {
        "show describe inspect view result status": "cg turn get",
        "cancel kill terminate abort delete remove rm": "cg turn stop",
        "retry rerun restart": "cg turn redo",
        "signal send message": "cg turn tell",
        "logs log tail watch stream": "cg turn follow",
        "history events": "cg turn feed",
        "records": "cg turn context",
        "approve reply respond": "cg turn answer",
        "reject deny": "cg turn decline",
        "why explain": "cg worker why",
        "tree children lineage": "cg project turn lineage",
        "ask": "cg ask",
        "dispatch create new submit start run": "cg dispatch",
    },
    "cg agent": {
        "show describe inspect view status": "cg agent get",
        "invite add create new": "cg admission invite create",
        "delete remove rm disable pause stop": "cg agent drain",
        "enable unpause start": "cg agent resume",
        "events history": "cg agent feed",
        "offers": "cg project offer list",
        "turns": "cg turn list",
        "ask": "cg ask",
        "run": "cg worker run",
    },
    "cg worker": {
        "start": "cg worker run",
        "list ls": "cg agent list",
        "test": "cg worker check",
        "stop drain": "cg agent drain",
    },
    "cg schedule": {
        "create add new put update edit": "cg schedule set",
        "get describe inspect view": "cg schedule show",
        "run fire start": "cg schedule trigger",
        "remove rm": "cg schedule delete",
        "resume": "cg schedule unpause",
        "stop disable": "cg schedule pause",
    },
}

COMMANDS: Mapping[str, Mapping[str, str]] = {
    group: {word: command for words, command in rows.items() for word in words.split()}
    for group, rows in _ROWS.items()
}
"""The command that is meant, by the group that a word was typed in, and the word."""


def meant_command(group: str, message: str) -> str | None:
    """Return the command that was meant by a word that is none; None if the word has no meaning here.

    Args:
        group: what was typed before the word, such as `cg turn`.
        message: why the line was refused.
    """
    unknown = _UNKNOWN.match(message)
    return COMMANDS.get(group, {}).get(unknown[1]) if unknown else None
