"""The worker runtime: claim, run the handler, settle, and go on whatever happens."""

from cgworker.worker.loop import Lifespan, Worker
from cgworker.worker.options import WorkerOptions
from cgworker.worker.place import TurnReport
from cgworker.worker.routing import Middleware, handles
from cgworker.worker.serve import run

__all__ = ["Lifespan", "Middleware", "TurnReport", "Worker", "WorkerOptions", "handles", "run"]
