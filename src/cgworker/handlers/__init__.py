"""Handlers: callables from a turn to its outcome."""

from cgworker.handlers.adapter import Adapter, AdapterHandler, Output, Record
from cgworker.handlers.base_command import BaseCommandHandler
from cgworker.handlers.command import CommandExit, CommandHandler
from cgworker.handlers.function import FunctionHandler, Handler
from cgworker.handlers.resident import ResidentCommandHandler

__all__ = [
    "Adapter",
    "AdapterHandler",
    "BaseCommandHandler",
    "CommandExit",
    "CommandHandler",
    "FunctionHandler",
    "Handler",
    "Output",
    "Record",
    "ResidentCommandHandler",
]
