"""A worker runtime for CommonGround: bring your own agent.

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/desk")

@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: dict) -> dict:
    return {"text": f"you asked: {question}"}

run(desk)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Writing handlers
    # Running workers
    from cgworker.client import AdmissionClient, KernelClient
    from cgworker.durable.answers import OpenQuestion, answer_question, decline_question, open_questions
    from cgworker.durable.children import Child, ChildResult
    from cgworker.durable.messages import Message
    from cgworker.durable.questions import Question
    from cgworker.durable.stream import Stream

    # What can go wrong
    from cgworker.errors import (
        AnswerInvalid,
        AnswerTimeout,
        CommandNotFound,
        CommonGroundError,
        ConflictError,
        CredentialRefused,
        FencingError,
        ForbiddenError,
        HandlerFailed,
        InvalidRequest,
        InvariantError,
        KernelLacks,
        KernelOverloaded,
        KernelRefused,
        KernelTimedOut,
        KernelTrouble,
        KernelUnreachable,
        LeaseLost,
        NotFoundError,
        PayloadTooLarge,
        PrivateStepMissing,
        ProfileError,
        QuestionDeclined,
        UnauthorizedError,
        UsageError,
        WaitTimedOut,
    )
    from cgworker.events import TurnLogFilter
    from cgworker.handlers import (
        Adapter,
        AdapterHandler,
        CommandExit,
        CommandHandler,
        FunctionHandler,
        Handler,
        Output,
        Record,
        ResidentCommandHandler,
    )
    from cgworker.handlers.environment import ChildEnvironment
    from cgworker.lease import Interrupted, Interruption, Reason
    from cgworker.outcome import (
        Failed,
        Outcome,
        Stopped,
        Succeeded,
        Suspended,
        Suspending,
        fail,
        retry,
        stop,
        succeed,
        suspend,
    )
    from cgworker.stores import FolderStore, ListingStore, ObjectStore, PrivateStore, key_from_file
    from cgworker.turn import Turn

    # Names on the wire
    from cgworker.wire.refs import AgentRef, TurnRef
    from cgworker.wire.turns import Dispatch, RootRequest
    from cgworker.worker import Lifespan, Middleware, TurnReport, Worker, WorkerOptions, handles, run
    from cgworker.worker.retries import Retries
    from cgworker.worker.telemetry.instrument import inject_trace, instrument

__all__ = [
    "Adapter",
    "AdapterHandler",
    "AdmissionClient",
    "AgentRef",
    "AnswerInvalid",
    "AnswerTimeout",
    "Child",
    "ChildEnvironment",
    "ChildResult",
    "CommandExit",
    "CommandHandler",
    "CommandNotFound",
    "CommonGroundError",
    "ConflictError",
    "CredentialRefused",
    "Dispatch",
    "Failed",
    "FencingError",
    "FolderStore",
    "ForbiddenError",
    "FunctionHandler",
    "Handler",
    "HandlerFailed",
    "Interrupted",
    "Interruption",
    "InvalidRequest",
    "InvariantError",
    "KernelClient",
    "KernelLacks",
    "KernelOverloaded",
    "KernelRefused",
    "KernelTimedOut",
    "KernelTrouble",
    "KernelUnreachable",
    "LeaseLost",
    "Lifespan",
    "ListingStore",
    "Message",
    "Middleware",
    "NotFoundError",
    "ObjectStore",
    "OpenQuestion",
    "Outcome",
    "Output",
    "PayloadTooLarge",
    "PrivateStepMissing",
    "PrivateStore",
    "ProfileError",
    "Question",
    "QuestionDeclined",
    "Reason",
    "Record",
    "ResidentCommandHandler",
    "Retries",
    "RootRequest",
    "Stopped",
    "Stream",
    "Succeeded",
    "Suspended",
    "Suspending",
    "Turn",
    "TurnLogFilter",
    "TurnRef",
    "TurnReport",
    "UnauthorizedError",
    "UsageError",
    "WaitTimedOut",
    "Worker",
    "WorkerOptions",
    "answer_question",
    "decline_question",
    "fail",
    "handles",
    "inject_trace",
    "instrument",
    "key_from_file",
    "open_questions",
    "retry",
    "run",
    "stop",
    "succeed",
    "suspend",
]

# Where the names live. They are imported when they are first asked for: a program pays for what it uses.
_HOMES = {
    "cgworker.client": ("AdmissionClient", "KernelClient"),
    "cgworker.durable.answers": ("OpenQuestion", "answer_question", "decline_question", "open_questions"),
    "cgworker.durable.children": ("Child", "ChildResult"),
    "cgworker.durable.messages": ("Message",),
    "cgworker.durable.questions": ("Question",),
    "cgworker.durable.stream": ("Stream",),
    "cgworker.errors": (
        "AnswerInvalid",
        "AnswerTimeout",
        "CommandNotFound",
        "CommonGroundError",
        "ConflictError",
        "CredentialRefused",
        "FencingError",
        "ForbiddenError",
        "HandlerFailed",
        "InvalidRequest",
        "InvariantError",
        "KernelLacks",
        "KernelOverloaded",
        "KernelRefused",
        "KernelTimedOut",
        "KernelTrouble",
        "KernelUnreachable",
        "LeaseLost",
        "NotFoundError",
        "PayloadTooLarge",
        "PrivateStepMissing",
        "ProfileError",
        "QuestionDeclined",
        "UnauthorizedError",
        "UsageError",
        "WaitTimedOut",
    ),
    "cgworker.events": ("TurnLogFilter",),
    "cgworker.handlers": (
        "Adapter",
        "AdapterHandler",
        "CommandExit",
        "CommandHandler",
        "FunctionHandler",
        "Handler",
        "Output",
        "Record",
        "ResidentCommandHandler",
    ),
    "cgworker.handlers.environment": ("ChildEnvironment",),
    "cgworker.lease": ("Interrupted", "Interruption", "Reason"),
    "cgworker.outcome": (
        "Failed",
        "Outcome",
        "Stopped",
        "Succeeded",
        "Suspended",
        "Suspending",
        "fail",
        "retry",
        "stop",
        "succeed",
        "suspend",
    ),
    "cgworker.stores": ("FolderStore", "ListingStore", "ObjectStore", "PrivateStore", "key_from_file"),
    "cgworker.turn": ("Turn",),
    "cgworker.wire.refs": ("AgentRef", "TurnRef"),
    "cgworker.wire.turns": ("Dispatch", "RootRequest"),
    "cgworker.worker": ("Lifespan", "Middleware", "TurnReport", "Worker", "WorkerOptions", "handles", "run"),
    "cgworker.worker.retries": ("Retries",),
    "cgworker.worker.telemetry.instrument": ("inject_trace", "instrument"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_OLD_HOME_OF = {"carry_trace": "cgworker.worker.telemetry.instrument"}  # deprecated names


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name) or _OLD_HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
