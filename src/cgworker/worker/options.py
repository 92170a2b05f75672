"""`WorkerOptions`: the limits and the behaviour of a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen, validators

from cgworker.deprecation import use_old_names, warn_renamed
from cgworker.durable.private import PrivateSettings
from cgworker.lease import RENEW_FRACTION
from cgworker.paths import state_folder
from cgworker.stores import FolderStore, PrivateStore
from cgworker.worker.retries import Retries

_positive: Any = validators.gt(0)
_not_negative: Any = validators.ge(0)


def _as_path(folder: Path | str | None) -> Path | None:
    return None if folder is None else Path(folder).expanduser()


@frozen
class StoringPolicy:
    """When a result is stored.

    Attributes:
        is_first: whether it is on the disk before the first request that settles its turn. If not, it is
            written while that request is under way.
        delay_seconds: how long the write waits for the answer to that request.
    """

    is_first: bool = False
    delay_seconds: float = 0.0


BESIDE: StoringPolicy = StoringPolicy()
"""A result is written while the first request that settles its turn is under way."""


@frozen(kw_only=True)
class WorkerOptions:
    """The limits and the behaviour of a worker.

    Attributes:
        concurrency: the most turns at once; None is the agent's capacity.
        wait_seconds: how long one request for work may wait at the kernel, which caps it at 60.
        poll_seconds: the longest pause between claim requests at a kernel that cannot long-poll.
        grace_seconds: how long the turns held may go on after a drain began; one deadline for all.
        interrupt_seconds: how long an interrupted handler has to end by itself.
        time_limit_seconds: how long a handler may take; None is no limit, and the default.
        presence_seconds: how often to publish the agent's presence (`last_seen_at`), besides at the start
            and at the end; None is never. 300 keeps an idle worker below two requests a minute.
        renew_fraction: the part of a lease after which it is renewed, a third at most.
        renew_seconds: renew at least this often; can only make it sooner.
        refused_seconds: a worker whose credential the kernel refuses (401, 403) for so long ends with
            `CredentialRefused`; among others of its event loop it goes on trying until all are refused.
        max_attempts: a turn whose claims ended this often without a result is closed as failed.
        on_error: what an exception of a handler becomes if there are no `retries` for it: "fail" closes the
            turn as failed, "suspend" suspends it with reason `handler_error`.
        retries: how often a turn is tried again whose handler raised, or whose command ended with a failure
            status; after the last one it fails with `retries_exhausted`. None is never. A handler's own
            `retries` take precedence.
        on_stuck: what happens when a handler does not end in time: "release" gives its slot to other work,
            "drain" ends the worker, and with status 1 the process that `run()` or `cg` owns, so that
            its supervisor starts a new one.
        stop_children: when a turn is stopped, ask for its children to be stopped too; needs the grant
            `turn.stop.any`.
        follow_parent: end the handler of a child turn once the turn that dispatched it is closed.
        outbox: when a result is written to the outbox. "beside": while the first request that settles its
            turn is under way, and before any other; a worker that is killed before the kernel or the disk has
            the result loses it, and the handler runs again. "before": before that request. "late": only if
            the kernel has not answered within `outbox_late_seconds`, for handlers that may cheaply run twice.
        outbox_late_seconds: how long "late" waits, a second at most.
        outbox_path: the folder where results wait until the kernel has them; by default below
            `$XDG_STATE_HOME`.
            Workers that share it, and the address of the kernel, deliver each other's results.
        outbox_max_bytes: the most bytes that may wait there.
        private_store: where the values of private steps are (`turn.once(..., private=True)`); None is a
            `FolderStore()`, which workers of this machine share.
        keep_private: keep them when the turn is closed, as for `redo` with its steps; by default they are
            removed.
        on_private_missing: what happens if the store does not have one, as on another machine: "elsewhere"
            hands the turn back for another worker, at most `max_attempts` times, "redo" does the step
            again, "fail" fails the turn.
        context_page_size: the records to ask for at a time, after the first hundred.
        max_payload_bytes: a final payload larger than this, as JSON, is a typed failure.
    """

    concurrency: int | None = field(default=None, validator=validators.optional(_positive))
    wait_seconds: float = field(default=50.0, validator=_not_negative)
    poll_seconds: float = field(default=1.0, validator=_positive)
    grace_seconds: float = field(default=20.0, validator=_not_negative)
    interrupt_seconds: float = field(default=5.0, validator=_not_negative)
    time_limit_seconds: float | None = field(default=None, validator=validators.optional(_positive))
    presence_seconds: float | None = field(default=None, validator=validators.optional(_positive))
    renew_fraction: float = field(
        default=RENEW_FRACTION, validator=[_positive, validators.le(RENEW_FRACTION)]
    )
    renew_seconds: float | None = field(default=None, validator=validators.optional(_positive))
    refused_seconds: float = field(default=60.0, validator=_not_negative)
    max_attempts: int = field(default=5, validator=_positive)
    on_error: Literal["fail", "suspend"] = field(
        default="fail", validator=validators.in_(["fail", "suspend"])
    )
    retries: Retries | None = None
    on_stuck: Literal["release", "drain"] = field(
        default="release", validator=validators.in_(["release", "drain"])
    )
    stop_children: bool = False
    follow_parent: bool = False
    outbox: Literal["before", "beside", "late"] = field(
        default="beside", validator=validators.in_(["before", "beside", "late"])
    )
    outbox_late_seconds: float = field(default=0.02, validator=[_positive, validators.le(1.0)])
    outbox_path: Path | None = field(default=None, converter=_as_path)
    outbox_max_bytes: int = field(default=1024 * 1024 * 1024, validator=_positive)
    private_store: PrivateStore | None = None
    keep_private: bool = False
    on_private_missing: Literal["elsewhere", "redo", "fail"] = field(
        default="elsewhere", validator=validators.in_(["elsewhere", "redo", "fail"])
    )
    context_page_size: int = field(default=1000, validator=[_positive, validators.le(1000)])
    max_payload_bytes: int = field(default=16 * 1024 * 1024 - 64 * 1024, validator=_positive)
    _old_outbox_max_bytes: int | None = field(
        default=None,
        alias="outbox_most_bytes",
        validator=validators.optional(_positive),
        repr=False,
        eq=False,
    )
    _old_max_payload_bytes: int | None = field(
        default=None,
        alias="most_payload_bytes",
        validator=validators.optional(_positive),
        repr=False,
        eq=False,
    )

    def __attrs_post_init__(self) -> None:
        use_old_names(self)

    @property
    def outbox_folder(self) -> Path:
        """The folder of the outbox: `outbox_path`, or the default."""
        return self.outbox_path or state_folder("outbox")

    @property
    def storing(self) -> StoringPolicy:
        """When a result is stored, by `outbox`."""
        if self.outbox == "before":
            return StoringPolicy(is_first=True)
        return BESIDE if self.outbox == "beside" else StoringPolicy(delay_seconds=self.outbox_late_seconds)

    @property
    def private_settings(self) -> PrivateSettings:
        """The settings of private values."""
        return PrivateSettings(
            store=self.private_store or FolderStore(),
            on_missing=self.on_private_missing,
            max_hand_backs=self.max_attempts,
        )

    @property
    def outbox_most_bytes(self) -> int:
        """The old name of `outbox_max_bytes`; deprecated."""
        warn_renamed("WorkerOptions.outbox_most_bytes", "outbox_max_bytes")
        return self.outbox_max_bytes

    @property
    def most_payload_bytes(self) -> int:
        """The old name of `max_payload_bytes`; deprecated."""
        warn_renamed("WorkerOptions.most_payload_bytes", "max_payload_bytes")
        return self.max_payload_bytes
