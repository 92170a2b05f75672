"""`Worker`: claims turns for one agent and runs handlers on them, several at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.abc

from cgworker.client import KernelClient
from cgworker.deprecation import warn_renamed
from cgworker.errors import UsageError
from cgworker.events import Listener, combine_listeners
from cgworker.handlers import BaseCommandHandler, FunctionHandler, Handler
from cgworker.handlers.signature import HandlerFunction
from cgworker.wire.refs import AgentRef
from cgworker.worker.context import RunContext
from cgworker.worker.disk_space import Room
from cgworker.worker.hooks import WorkerHooks
from cgworker.worker.options import WorkerOptions
from cgworker.worker.poller import ClaimPoller
from cgworker.worker.profile_kernel import ProfileKernel
from cgworker.worker.registry import HandlerRegistry
from cgworker.worker.routing import marked_methods
from cgworker.worker.run_setup import may_claim, open_context
from cgworker.worker.runner import Runner
from cgworker.worker.single_run import SingleRun
from cgworker.worker.turn_report import TurnReport

_NO_AGENT = "a worker needs a kernel client with an agent: KernelClient(url, agent=..., token=...)"

Lifespan = Callable[["Worker"], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""Opens what handlers need while a worker runs, and yields it by name."""


class Worker(HandlerRegistry, WorkerHooks):
    """Works the turns of one agent.

    Handlers come from `@worker.turn(kind)`, `worker.add(kind, handler)`, methods marked with
    `@handles(kind)` in a subclass, or a subclass's `handle`, which gets every other kind.

    Args:
        kernel: the kernel, with the agent's identity.
        handler: handles every kind without a handler of its own; a function is taken as by `@worker.turn()`.
        options: limits and behaviour.
        listener: called with every event, in the worker's own task; it must not block.
        lifespan: a function that takes the worker and returns an async context manager. It is entered before
            the first claim and left after the drain; functions get what it yields by parameter name.

    Raises:
        UsageError: the client has no agent identity, or the signature of a handler is wrong.
    """

    def __init__(
        self,
        kernel: KernelClient | ProfileKernel,
        handler: Handler | HandlerFunction | None = None,
        *,
        options: WorkerOptions = WorkerOptions(),  # noqa: B008  # frozen
        listener: Listener | None = None,
        lifespan: Lifespan | None = None,
    ) -> None:
        if not isinstance(kernel, KernelClient | ProfileKernel) or kernel.agent is None:
            raise UsageError(_NO_AGENT)
        super().__init__()
        self._kernel = kernel
        self.agent: AgentRef = kernel.agent
        self.options = options
        self._listener = listener
        self._hears_turns = listener is not None
        self._lifespan = lifespan
        self._run: Runner | SingleRun | None = None
        self._drain_early = False
        self._last_runner: Runner | None = None
        if handler is not None:
            self.add(None, handler)
        for kind, (method, retries) in marked_methods(self).items():
            self.add(kind, FunctionHandler.of(method), retries=retries)
        if type(self).handle is not WorkerHooks.handle:
            self.add(None, FunctionHandler.of(self.handle))

    @classmethod
    def from_profile(
        cls,
        name: str,
        *,
        config_path: Path | None = None,
        options: WorkerOptions = WorkerOptions(),  # noqa: B008  # frozen
        listener: Listener | None = None,
        lifespan: Lifespan | None = None,
    ) -> Self:
        """Make a worker from a profile of the `cg` CLI, with its base URL, identity and credential.

        The profile is read when the worker runs or first needs the kernel. So tests can import the program on
        a machine without it.

        Args:
            name: `<project>/<agent>`.
            config_path: the CLI's config file; by default the one that the CLI uses.
            options: limits and behaviour.
            listener: called with every event, as for `Worker`.
            lifespan: opens what handlers need, as for `Worker`.
        """
        return cls(ProfileKernel(name, config_path), options=options, listener=listener, lifespan=lifespan)

    @property
    def kernel(self) -> KernelClient:
        """The kernel, with the agent's identity.

        Raises:
            ProfileError: the profile, its config file or its token file is missing or unsafe.
        """
        if isinstance(self._kernel, ProfileKernel):
            self._kernel = self._kernel.connect()
        return self._kernel

    def with_kernel(
        self,
        kernel: KernelClient,
        *,
        options: WorkerOptions | None = None,
        listener: Listener | None = None,
        lifespan: Lifespan | None = None,
    ) -> Self:
        """Return a copy of this worker for the agent of another client, with the same handlers and hooks.

        Args:
            kernel: the kernel, with an agent's identity.
            options: the copy's limits and behaviour; None keeps this worker's.
            listener: the copy's listener; None keeps this worker's.
            lifespan: the copy's lifespan; None keeps this worker's.

        Raises:
            UsageError: the client has no agent identity.
        """
        if kernel.agent is None:
            raise UsageError(_NO_AGENT)
        worker = copy.copy(self)
        vars(worker).update(
            _kernel=kernel,
            agent=kernel.agent,
            options=options or self.options,
            _listener=listener or self._listener,
            _hears_turns=listener is not None or self._hears_turns,
            _lifespan=lifespan or self._lifespan,
            _middleware=list(self._middleware),
            _run=None,
            _last_runner=None,
            _drain_early=False,
        )
        return worker

    def at(self, kernel: KernelClient, **changed: Any) -> Self:
        """Do what `with_kernel` does: the old name of it; deprecated."""
        warn_renamed("Worker.at()", "Worker.with_kernel()")
        return self.with_kernel(kernel, **changed)

    def __repr__(self) -> str:
        if isinstance(self._kernel, ProfileKernel):
            return f"{type(self).__name__}({self.agent} by its profile)"
        return f"{type(self).__name__}({self.agent} at {self._kernel.base_url})"

    def _checked(self, handler: Handler | HandlerFunction) -> Handler:
        if self._run is not None:
            raise UsageError(f"{self!r} runs already: add its handlers before, or in its lifespan")
        found = super()._checked(handler)
        if self._lifespan is None and isinstance(found, FunctionHandler):
            found.check()
        return found

    def room(self) -> Room:
        """Return the watch over the folders that the worker writes to: the outbox and those of its commands.

        Raises:
            UsageError: no default place for a folder is known.
        """
        commands = [each for each in self._routes.handlers if isinstance(each, BaseCommandHandler)]
        folders = [self.options.outbox_folder, *(folder for each in commands for folder in each.folders)]
        return Room(folders, self.agent, self._listener)

    def listen(self, listener: Listener, *, turns: bool = True) -> None:
        """Add a listener, called with every event from the next `run()` or `once()` on; it must not block.

        Args:
            listener: the listener.
            turns: whether it needs the routine events of turns: `TurnClaimed`, `HandlerStarted` and
                `TurnSettled`. A worker makes them only if they are logged or a listener needs them.
        """
        self._listener = combine_listeners(self._listener, listener)
        self._hears_turns = self._hears_turns or turns

    async def once(self, *, wait_seconds: float = 0) -> TurnReport | None:
        """Claim one turn and work it. A `drain()` or a cancellation ends it in order.

        Args:
            wait_seconds: how long the kernel may wait for work, in seconds; it caps this at 60.

        Returns:
            What became of the turn; None if there was none.

        Raises:
            KernelRefused, KernelTrouble: the claim could not be made.
            CommandNotFound: the command of a command handler is missing; nothing was claimed.
            UsageError: there is no handler, one lacks a resource, or a folder cannot be written; nothing was
                claimed.
        """
        async with self._open_context() as context:
            found = await ClaimPoller(self.kernel, self.options, self._listener).once(wait_seconds)
            if found is None:
                return None
            run = self._run = SingleRun(context, self.agent, self._overridden("on_settled"))
            try:
                report = await run.run(found)
            finally:
                self._run = None
        if report.error is not None:
            raise report.error
        return report

    async def run(
        self,
        *,
        shared_slots: anyio.Semaphore | None = None,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work turns until `drain()`. A cancellation drains with no grace period.

        Args:
            shared_slots: limits the handlers that run at once, together with other workers, besides this
                worker's own `options.concurrency`; None is no further limit.
            task_status: started once the worker claims.

        Raises:
            CommandNotFound: the command of a command handler is missing.
            UsageError: there is no handler, one lacks a resource, a folder cannot be written, or the worker
                runs already.
        """
        if self._run is not None:
            raise UsageError(f"{self!r} runs already")
        async with self._open_context(shared_slots) as context:
            runner = self._run = self._last_runner = Runner(
                context,
                self.agent,
                partial(may_claim, context, self._overridden("select")),
                self._overridden("on_settled"),
            )
            if self._drain_early:
                runner.drain()
            try:
                await runner.run(task_status)
            finally:
                self._run = None
        if runner.error is not None:
            raise runner.error

    def drain(self, *, force: bool = False, hurry: bool | None = None) -> None:
        """Stop claiming. `run()` returns when the turns held have ended or were handed back.

        Args:
            force: give the turns held no grace period.
            hurry: the old name of `force`; deprecated.
        """
        if hurry is not None:
            warn_renamed("drain(hurry=)", "drain(force=)")
            force = force or hurry
        self._drain_early = True
        if self._run is not None:
            self._run.drain(force=force)

    @property
    def held_count(self) -> int:
        """The number of turns held now."""
        return self._run.held_count if self._run is not None else 0

    @property
    def stuck_count(self) -> int:
        """The number of handlers of this or the last `run()` that did not end when they had to."""
        return self._last_runner.stuck_count if self._last_runner is not None else 0

    @property
    def is_ended_by_stuck(self) -> bool:
        """Whether a stuck handler has drained it (`on_stuck="drain"`), so that its process should end."""
        return self._last_runner is not None and self._last_runner.is_ended_by_stuck

    @property
    def has_unsettled(self) -> bool:
        """Whether a turn is held, or ended since the drain without being settled or handed back."""
        return self._last_runner is not None and self._last_runner.has_unsettled

    def _open_context(
        self, shared_slots: anyio.Semaphore | None = None
    ) -> AbstractAsyncContextManager[RunContext]:
        return open_context(
            kernel=self.kernel,
            routes=self._routes,
            lifespan=None if self._lifespan is None else partial(self._lifespan, self),
            room=self.room(),
            options=self.options,
            listener=self._listener,
            hears_turns=self._hears_turns,
            shared_slots=shared_slots,
            middleware=tuple(self._middleware),
            on_claimed=self._overridden("on_claimed"),
            on_interrupted=self._overridden("on_interrupted"),
        )

    def _overridden(self, name: str) -> Any:
        """Return a hook if a subclass has one; None if it is the one that does nothing."""
        hook = getattr(self, name)
        return None if getattr(hook, "__func__", None) is getattr(WorkerHooks, name) else hook
