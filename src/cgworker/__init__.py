"""A worker runtime for CommonGround: bring your own agent.

from cgworker import Turn, Worker, run

desk = Worker.from_profile("cg-demo/desk")

@desk.turn("turn.conversation.v1")
async def answer(turn: Turn, question: dict) -> dict:
    return {"text": f"you asked: {question}"}

run(desk)
"""

# Writing handlers
# Running workers
from cgworker.client import AdmissionClient, KernelClient
from cgworker.durable.children import Child, ChildResult
from cgworker.durable.questions import OpenQuestion, answer_question, open_questions
from cgworker.durable.stream import Stream

# What can go wrong
from cgworker.errors import (
    CommonGroundError,
    ConflictError,
    FencingError,
    HandlerFailed,
    KernelRefused,
    KernelTrouble,
    LeaseLost,
    UsageError,
)
from cgworker.handlers import CommandExit, CommandHandler, FunctionHandler, Handler
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
from cgworker.turn import Turn

# Names on the wire
from cgworker.wire.refs import AgentRef, TurnRef
from cgworker.worker import Middleware, TurnReport, Worker, WorkerOptions, handles, run

__all__ = [
    "AdmissionClient",
    "AgentRef",
    "Child",
    "ChildResult",
    "CommandExit",
    "CommandHandler",
    "CommonGroundError",
    "ConflictError",
    "Failed",
    "FencingError",
    "FunctionHandler",
    "Handler",
    "HandlerFailed",
    "Interrupted",
    "Interruption",
    "KernelClient",
    "KernelRefused",
    "KernelTrouble",
    "LeaseLost",
    "Middleware",
    "OpenQuestion",
    "Outcome",
    "Reason",
    "Stopped",
    "Stream",
    "Succeeded",
    "Suspended",
    "Suspending",
    "Turn",
    "TurnRef",
    "TurnReport",
    "UsageError",
    "Worker",
    "WorkerOptions",
    "answer_question",
    "fail",
    "handles",
    "open_questions",
    "retry",
    "run",
    "stop",
    "succeed",
    "suspend",
]
