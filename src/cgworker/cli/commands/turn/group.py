"""`cg turn`: look at a turn, wait for it, answer it, tell it something, resume or stop it."""

from __future__ import annotations

from cgworker.cli.command import Program, add_command, add_program, group
from cgworker.cli.commands.turn.answer import answer
from cgworker.cli.commands.turn.context import context
from cgworker.cli.commands.turn.decline import decline
from cgworker.cli.commands.turn.feed import feed
from cgworker.cli.commands.turn.follow import follow
from cgworker.cli.commands.turn.get import get
from cgworker.cli.commands.turn.list import list_turns
from cgworker.cli.commands.turn.questions import questions
from cgworker.cli.commands.turn.redo import redo
from cgworker.cli.commands.turn.resume import resume
from cgworker.cli.commands.turn.stop import stop
from cgworker.cli.commands.turn.tell import tell
from cgworker.cli.commands.turn.wait import wait

app: Program = group(
    "Look at turns, wait for them, answer them, tell them something, resume, stop and redo them."
)
add_command(app, "list", list_turns)
add_command(app, "get", get)
add_command(app, "context", context)
add_command(app, "wait", wait)
add_command(app, "resume", resume)
add_command(app, "stop", stop)
add_command(app, "feed", feed)
add_command(app, "questions", questions)
add_command(app, "answer", answer, has_json_flag=False)
add_command(app, "decline", decline)
add_command(app, "tell", tell, has_json_flag=False)
add_command(app, "redo", redo)
add_program(app, "follow", follow)
