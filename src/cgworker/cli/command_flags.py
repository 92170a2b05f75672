"""The flags of `cg worker once` and `cg worker loop`, and the handler and options they make."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from attrs import frozen

from cgworker.cli.options import Flag, RenewInterval
from cgworker.cli.payload import split_command
from cgworker.errors import UsageError
from cgworker.handlers import CommandHandler, ResidentCommandHandler
from cgworker.handlers.environment import ChildEnvironment
from cgworker.handlers.folder import CommandFiles
from cgworker.worker import WorkerOptions

_PAGE_RECORDS = 100


@frozen(kw_only=True)
class CommandFlags:
    """The command to run on each turn, and how to run it."""

    project_id: Annotated[
        str | None,
        Flag("--project-id", metavar="PROJECT", help="The agent's project, if no profile is given."),
    ] = None
    agent_id: Annotated[
        str | None, Flag("--agent-id", metavar="AGENT", help="The agent, if no profile is given.")
    ] = None
    context_after_turn_seq: Annotated[
        int | None,
        Flag(
            "--context-after-turn-seq",
            metavar="N",
            help="Show the command only a page of records, after this number.",
        ),
    ] = None
    context_limit: Annotated[
        int | None,
        Flag(
            "--context-limit",
            min=1,
            metavar="N",
            help="Show the command only a page of N records.  [default: all; a page has 100]",
        ),
    ] = None
    work_dir: Annotated[
        str | None,
        Flag("--work-dir", metavar="DIR", help="Keep the turns' files here, not in temporary folders."),
    ] = None
    context_out_file: Annotated[
        str | None, Flag("--context-out-file", metavar="FILE", help="The path of CG_CONTEXT_FILE.")
    ] = None
    final_in_file: Annotated[
        str | None, Flag("--final-in-file", metavar="FILE", help="The path of CG_FINAL_FILE.")
    ] = None
    suspend_in_file: Annotated[
        str | None, Flag("--suspend-in-file", metavar="FILE", help="The path of CG_SUSPEND_FILE.")
    ] = None
    failure_in_file: Annotated[
        str | None, Flag("--failure-in-file", metavar="FILE", help="The path of CG_FAILURE_FILE.")
    ] = None
    renew_interval_seconds: RenewInterval = None
    final_record_role: Annotated[
        str, Flag("--final-record-role", metavar="ROLE", help="The role of the record with the result.")
    ] = "deliverable"
    time_limit_seconds: Annotated[
        float | None,
        Flag("--time-limit-seconds", min=0.01, metavar="S", help="End a command after S seconds."),
    ] = None
    grace_seconds: Annotated[
        float,
        Flag("--grace-seconds", min=0, metavar="S", help="How long a command may run on after SIGTERM."),
    ] = 20.0
    outbox: Annotated[
        Literal["before", "beside", "late"],
        Flag("--outbox", help="When to write a result to disk: before, beside or after the first request."),
    ] = "beside"
    clean_env: Annotated[bool, Flag("--clean-env", help="Give the command only PATH, HOME and the like.")] = (
        False
    )
    env: Annotated[
        list[str] | None,
        Flag("--env", metavar="NAME[=VALUE]", help="A variable for the command; repeat for more."),
    ] = None
    command: Annotated[
        str,
        Flag(
            "--command",
            metavar="CMD [ARGS]...",
            help="The command to run on each turn; takes the rest of the line.",
        ),
    ]

    def handler(self, *, folder_per_turn: bool) -> CommandHandler:
        """Make the handler that runs the command.

        Args:
            folder_per_turn: give each turn its own folder below --work-dir.

        Raises:
            UsageError: the flags cannot be used together.
        """
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

    def resident_handler(self, count: int | None) -> ResidentCommandHandler:
        """Make the handler for a command that stays (`--resident`).

        Args:
            count: the most processes; None is one for each turn that runs at once.

        Raises:
            UsageError: a flag is for commands that talk by files.
        """
        files = {
            "--work-dir": self.work_dir,
            "--context-out-file": self.context_out_file,
            "--final-in-file": self.final_in_file,
            "--suspend-in-file": self.suspend_in_file,
            "--failure-in-file": self.failure_in_file,
        }
        if given := [flag for flag, path in files.items() if path is not None]:
            raise UsageError(f"{given[0]} cannot be used with --resident: such a command talks by lines")
        return ResidentCommandHandler(
            split_command(self.command),
            count=count,
            context_after_turn_seq=self.context_after_turn_seq or 0,
            context_limit=self._context_limit(),
            environment=_environment_of(self.clean_env, self.env),
            final_record_role=self.final_record_role,
        )

    def options(self) -> WorkerOptions:
        """Make the worker's options."""
        return WorkerOptions(
            renew_seconds=self.renew_interval_seconds,
            context_page_size=min(self.context_limit or _PAGE_RECORDS, 1000),
            grace_seconds=self.grace_seconds,
            time_limit_seconds=self.time_limit_seconds,
            outbox=self.outbox,
        )

    def _context_limit(self) -> int | None:
        """Return the number of records on a page if --context-after-turn-seq asks for one; None is all."""
        if self.context_limit is None and self.context_after_turn_seq is not None:
            return _PAGE_RECORDS
        return self.context_limit


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text).expanduser().absolute()


def _environment_of(clean: bool, wanted: Iterable[str] | None) -> ChildEnvironment:
    """Make the command's environment: `NAME=VALUE` sets a variable, `NAME` passes one on."""
    added: dict[str, str] = {}
    for each in wanted or ():
        name, given, value = each.partition("=")
        if given or name in os.environ:
            added[name] = value if given else os.environ[name]
    return ChildEnvironment(clean=clean, added=added)
