"""What comes out of a handler that was unwound, by itself or in a group of exceptions."""

from __future__ import annotations

from cgworker.handlers import Handler
from cgworker.lease import Interrupted
from cgworker.outcome import Outcome, Suspending
from cgworker.turn import Turn


def unwinding(handler: Handler) -> Handler:
    """The handler, with what unwinds it as its outcome, so that middleware sees one in any case.

    What `children` or `ask` decided stands, also where the handler caught it, or where it came out of a
    task group among others.
    """

    async def call(turn: Turn) -> Outcome:
        try:
            outcome = await handler(turn)
        except Suspending as suspending:
            return suspending.outcome
        except BaseExceptionGroup as group:
            if (rest := group.split((Suspending, Interrupted))[1]) is not None:
                raise rest from None
            if (interruption := turn.interruption) is not None:
                raise Interrupted(interruption) from None
            assert turn.suspension is not None  # nothing else was in the group
            return turn.suspension
        return turn.suspension or outcome

    return call
