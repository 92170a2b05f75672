"""All exceptions of cgworker; the kernel, the client and the CLI use this one table.

    CommonGroundError
    ├── KernelRefused              the kernel answered no; asking again changes nothing
    │   ├── UnauthorizedError      401
    │   ├── ForbiddenError         403
    │   ├── NotFoundError          404
    │   ├── ConflictError          409
    │   ├── FencingError           409  the claim shown is not, or no longer, the current one
    │   ├── InvariantError         422
    │   ├── InvalidRequest         422  the body or query does not fit; carries its faults
    │   └── PayloadTooLarge        413
    ├── KernelTrouble              no usable answer; asking again may help
    │   ├── KernelUnreachable           connection refused, reset, ...
    │   │   └── KernelTimedOut          no answer in time; the request may have been carried out
    │   └── KernelOverloaded       408, 425, 429, 5xx; says when to come back, if the kernel did
    ├── AnswerInvalid              the answer is not of this protocol
    ├── KernelLacks           501  the kernel does not have this feature, such as the reference's kernel
    ├── CredentialRefused     401  a worker's credential stayed refused, whatever its token file said
    ├── LeaseLost                  the lease ended, or is about to, while work went on
    ├── HandlerFailed              a handler failed, with a public payload that says why
    ├── AnswerTimeout              408  a question of a turn was not answered within its time
    ├── QuestionDeclined           409  a question of a turn was declined
    ├── PrivateStepMissing         404  the private store does not have the value of a step
    ├── WaitTimedOut               408  the awaited change did not happen in time
    └── UsageError                 the caller's program or command line is wrong
        ├── ProfileError           a profile, its config file or its token file is unusable
        └── CommandNotFound        404  the command to run does not exist or is not executable

`code` is the CLI's error code, `status` the HTTP status (2 for wrong usage), both on the class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class CommonGroundError(Exception):
    """The base of all exceptions that cgworker raises."""

    code: str = "error"
    status: int = 500

    answer: str | None = None
    """The body of the server's answer, unchanged; None without an answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class KernelRefused(CommonGroundError):
    """The kernel understood the request and refused it. The caller is at fault; a repeat changes nothing.

    The admission service gives `code`s of its own (admission 3); they replace the class's.
    """

    code: str = "bad_request"
    status: int = 400

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code  # the class has the default, an answer may have another
        if status is not None:
            self.status = status


class UnauthorizedError(KernelRefused):
    """The credential is missing, malformed, unknown or expired: join again or rotate it."""

    code = "unauthorized"
    status = 401


class ForbiddenError(KernelRefused):
    """A valid credential that may not do this: revoked, disabled, or another's identity."""

    code = "forbidden"
    status = 403


class NotFoundError(KernelRefused):
    """The agent, turn or credential named does not exist in this project."""

    code = "not_found"
    status = 404


class ConflictError(KernelRefused):
    """The request contradicts what is already there, or a grant is missing."""

    code = "conflict"
    status = 409


class FencingError(KernelRefused):
    """The claim shown is not the current one, or its lease ended: stop working on the turn."""

    code = "fencing"
    status = 409


class InvariantError(KernelRefused):
    """The request would break a rule of the kernel that holds for all callers."""

    code = "invariant"
    status = 422


class InvalidRequest(KernelRefused):
    """The request does not have the form the route takes.

    `faults` lists its faults: dicts of `type`, `loc` (path from "body" or "query") and `msg`. If there are
    more than 50, the last one has the type `too_many_faults` and says how many were left out.
    """

    code = "invalid_input"
    status = 422

    def __init__(self, faults: Sequence[Mapping[str, Any]]) -> None:
        self.faults: tuple[dict[str, Any], ...] = tuple(dict(fault) for fault in faults)
        super().__init__("; ".join(f"{_path(f.get('loc', ()))}: {f.get('msg')}" for f in self.faults))


class PayloadTooLarge(KernelRefused):
    """The body is over the kernel's limit: send less, or keep the data elsewhere and refer to it."""

    code = "payload_too_large"
    status = 413


class KernelTrouble(CommonGroundError):
    """No usable answer came; whether the request was carried out is unknown. Retryable."""

    code = "request_error"
    status = 503
    retry_after_seconds: float | None = None


class KernelUnreachable(KernelTrouble):
    """The connection could not be made or broke: is the kernel running at this address?

    Args:
        message: what happened.
        address: the server's address; None if the caller does not know it.
    """

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class KernelTimedOut(KernelUnreachable):
    """The kernel did not answer in time; the request may have been carried out."""

    code = "timeout"
    status = 408


class KernelOverloaded(KernelTrouble):
    """The kernel said it cannot serve this now (408, 425, 429 or 5xx).

    `status` is the status it gave, `retry_after_seconds` its Retry-After, if any.
    """

    code = "http_error"

    def __init__(self, message: str, *, status: int = 503, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class AnswerInvalid(CommonGroundError):
    """The answer is not of this protocol: the address may be wrong, or a proxy in between."""

    code = "invalid_json"
    status = 422


class KernelLacks(CommonGroundError):
    """The kernel does not have this feature, such as the reference's kernel; nothing was done.

    Args:
        what: what it lacks, as in "telling turns something".
        kernel: the address of the kernel.
    """

    code = "kernel_lacks"
    status = 501

    def __init__(self, what: str, kernel: str) -> None:
        super().__init__(f"the kernel at {kernel} lacks this: {what}")
        self.what = what
        self.kernel = kernel


class CredentialRefused(CommonGroundError):
    """The kernel refused a worker's credential for as long as the worker was told to wait.

    Join again or rotate the credential, and start the worker anew.
    """

    code = "unauthorized"
    status = 401


class LeaseLost(CommonGroundError):
    """The lease of the claim ended, or can no longer be renewed in time.

    Another worker may hold the turn already; nothing may be written under the old claim.
    """

    code = "lease_lost"
    status = 409


class HandlerFailed(CommonGroundError):
    """A handler failed and describes the failure itself; raise it to fail the turn without a retry.

    Args:
        payload: the public error report, any JSON value.
    """

    code = "handler_failed"

    def __init__(self, payload: Any) -> None:
        super().__init__(f"handler failed: {payload}")
        self.payload = payload


class AnswerTimeout(CommonGroundError):
    """A question of a turn was not answered within its time; later attempts get this error too.

    Args:
        key: the key of the question.
    """

    code = "answer_timeout"
    status = 408

    def __init__(self, key: str) -> None:
        super().__init__(f"the question {key!r} was not answered in time")
        self.key = key


class QuestionDeclined(CommonGroundError):
    """A question of a turn was declined; later attempts get this error too.

    Args:
        key: the key of the question.
        reason: why, for people; None if nothing was said.
    """

    code = "question_declined"
    status = 409

    def __init__(self, key: str, reason: str | None = None) -> None:
        super().__init__(f"the question {key!r} was declined" + (f": {reason}" if reason else ""))
        self.key = key
        self.reason = reason


class PrivateStepMissing(CommonGroundError):
    """The private store of this worker does not have the value of a step as it was stored.

    Give all workers of an agent the same store and key: a `FolderStore` belongs to one machine. For a redo
    that keeps steps, the worker needs `keep_private=True`.

    Args:
        key: the key of the step.
    """

    code = "private_step_missing"
    status = 404

    def __init__(self, key: str) -> None:
        super().__init__(f"the private value of the step {key!r} is not in this worker's private store")
        self.key = key


class WaitTimedOut(CommonGroundError):
    """The awaited change did not happen in time; nothing was changed."""

    code = "timeout"
    status = 408


class UsageError(CommonGroundError):
    """The calling program or command line is wrong; the message says what to change."""

    code = "invalid_arguments"
    status = 2


class ProfileError(UsageError):
    """A profile, its config file or its token file is missing, stale or unsafe.

    `code` is one of profile_missing, profile_stale, profile_token_permissions (command line 1).
    """

    def __init__(self, code: str, message: str, *, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class CommandNotFound(UsageError):
    """The command of a command handler does not exist or is not executable."""

    code = "file_not_found"
    status = 404


# The classes that the `error` key of a refusal may name (wire 2.1).
REFUSALS: Mapping[str, type[KernelRefused]] = {
    cls.__name__: cls
    for cls in (UnauthorizedError, ForbiddenError, NotFoundError, ConflictError, FencingError, InvariantError)
}


def _path(loc: Sequence[Any]) -> str:
    return ".".join(str(part) for part in loc) or "body"
