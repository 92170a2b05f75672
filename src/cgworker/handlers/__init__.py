"""Handlers: callables from a turn to its outcome."""

from cgworker.handlers.command import CommandExit, CommandHandler
from cgworker.handlers.function import FunctionHandler, Handler

__all__ = ["CommandExit", "CommandHandler", "FunctionHandler", "Handler"]
