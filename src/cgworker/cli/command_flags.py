"""The flags of `cg worker once` and `cg worker loop`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from attrs import frozen

from cgworker.cli.options import Flag, RenewInterval
from cgworker.cli.payload import split_command
from cgworker.handlers import CommandHandler
from cgworker.handlers.environment import ChildEnvironment
from cgworker.handlers.folder import CommandFiles
from cgworker.worker import WorkerOptions

_PAGE_RECORDS = 100


@frozen(kw_only=True)
class CommandFlags:
    """What to run on each turn, and how."""

    project_id: Annotated[
        str | None, Flag("--project-id", metavar="PROJECT", help="The agent's, without a profile.")
    ] = None
    agent_id: Annotated[
        str | None, Flag("--agent-id", metavar="AGENT", help="The agent, without a profile.")
    ] = None
    context_after_turn_seq: Annotated[
        int | None,
        Flag("--context-after-turn-seq", metavar="N", help="Only a page of records, after this one."),
    ] = None
    context_limit: Annotated[
        int | None,
        Flag(
            "--context-limit",
            min=1,
            metavar="N",
            help="Only a page of so many records.  [default: all; a page has 100]",
        ),
    ] = None
    work_dir: Annotated[
        str | None,
        Flag("--work-dir", metavar="DIR", help="Keep the turns' files here, not in temporary folders."),
    ] = None
    context_out_file: Annotated[
        str | None, Flag("--context-out-file", metavar="FILE", help="Where CG_CONTEXT_FILE is.")
    ] = None
    final_in_file: Annotated[
        str | None, Flag("--final-in-file", metavar="FILE", help="Where CG_FINAL_FILE is.")
    ] = None
    suspend_in_file: Annotated[
        str | None, Flag("--suspend-in-file", metavar="FILE", help="Where CG_SUSPEND_FILE is.")
    ] = None
    failure_in_file: Annotated[
        str | None, Flag("--failure-in-file", metavar="FILE", help="Where CG_FAILURE_FILE is.")
    ] = None
    renew_interval_seconds: RenewInterval = None
    final_record_role: Annotated[
        str, Flag("--final-record-role", metavar="ROLE", help="What kind of record the result is.")
    ] = "deliverable"
    time_limit_seconds: Annotated[
        float | None,
        Flag("--time-limit-seconds", min=0.01, metavar="S", help="End a command after it."),
    ] = None
    grace_seconds: Annotated[
        float,
        Flag("--grace-seconds", min=0, metavar="S", help="How long it may go on after SIGTERM."),
    ] = 20.0
    clean_env: Annotated[
        bool, Flag("--clean-env", help="Give the command PATH, HOME and the like, not everything.")
    ] = False
    env: Annotated[
        list[str] | None,
        Flag("--env", metavar="NAME[=VALUE]", help="A variable for the command; repeat for more."),
    ] = None
    command: Annotated[
        str,
        Flag(
            "--command", metavar="CMD [ARGS]...", help="What to run on each turn; takes the rest of the line."
        ),
    ]

    def handler(self, *, folder_per_turn: bool) -> CommandHandler:
        """The handler that runs the command."""
        return CommandHandler(
            split_command(self.command),
            work_dir=_path(self.work_dir),
            folder_per_turn=folder_per_turn,
            files=CommandFiles(
                context=_path(self.context_out_file),
                final=_path(self.final_in_file),
                suspend=_path(self.suspend_in_file),
                failure=_path(self.failure_in_file),
            ),
            context_after_turn_seq=self.context_after_turn_seq or 0,
            context_limit=self._context_limit(),
            environment=_environment_of(self.clean_env, self.env),
            final_record_role=self.final_record_role,
        )

    def options(self) -> WorkerOptions:
        """How the worker behaves."""
        return WorkerOptions(
            renew_seconds=self.renew_interval_seconds,
            context_page_size=min(self.context_limit or _PAGE_RECORDS, 1000),
            grace_seconds=self.grace_seconds,
            time_limit_seconds=self.time_limit_seconds,
        )

    def _context_limit(self) -> int | None:
        """A page if one is asked for, as the reference has it; else all records."""
        if self.context_limit is None and self.context_after_turn_seq is not None:
            return _PAGE_RECORDS
        return self.context_limit


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given).expanduser().absolute()


def _environment_of(clean: bool, wanted: Iterable[str] | None) -> ChildEnvironment:
    """The command's environment: `NAME=VALUE` sets a variable, `NAME` passes ours on."""
    added: dict[str, str] = {}
    for each in wanted or ():
        name, given, value = each.partition("=")
        if given or name in os.environ:
            added[name] = value if given else os.environ[name]
    return ChildEnvironment(clean=clean, added=added)
