"""The fence: check that a claim is the turn's current one and has not ended, and say why if it is not."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

from attrs import frozen

from cgworker.errors import FencingError, KernelOverloaded, NotFoundError
from cgworker.kernel.store.callers import PresentedCredential, require_caller
from cgworker.kernel.store.ids import hash_of, turn_number
from cgworker.kernel.store.postgres.database import Database, Row
from cgworker.wire.refs import ClaimToken

Arguments = TypeVar("Arguments")


@frozen
class Fenced(Generic[Arguments]):
    """An operation under a claim.

    Attributes:
        claim: the claim token.
        bearer: the credential that the caller presented.
        what: the operation's own arguments.
    """

    claim: ClaimToken
    bearer: PresentedCredential
    what: Arguments


def claim_columns(claim: ClaimToken) -> tuple[int, str, bytes]:
    """Return the columns that a statement compares with a claim: turn_number, agent_id and token_hash."""
    return turn_number(claim.turn_id), claim.agent_id, hash_of(claim.token)


FIND_CLAIM = """
select state, claim_agent_id, claim_token_hash, claim_expires_at <= cg_clock() as is_over,
    settled_token_hash, settled_digest
from cg_turns
where project_id = $1 and turn_number = $2
"""


async def find_claim(database: Database, claim: ClaimToken) -> Row:
    """Return the columns of the turn that concern its claim.

    Raises:
        NotFoundError: there is no such turn.
    """
    row = await database.fetchrow(FIND_CLAIM, claim.project_id, turn_number(claim.turn_id))
    if row is None:
        raise NotFoundError(f"turn not found: {claim.turn_id}")
    return row


def check_claim(row: Row, claim: ClaimToken) -> None:
    """Raise FencingError unless the claim is the turn's current one and its lease has not ended."""
    if row["state"] != "running":
        raise FencingError(f"turn is not running: {claim.turn_id}")
    if row["claim_agent_id"] != claim.agent_id or row["claim_token_hash"] != hash_of(claim.token):
        raise FencingError(f"claim token mismatch for turn {claim.turn_id}")
    if row["is_over"]:
        raise FencingError(f"claim expired for turn {claim.turn_id}")


def is_repeat(row: Row, claim: ClaimToken, content_digest: bytes) -> bool:
    """Whether the turn was last settled under this claim and with this content (difference 4).

    The next claim clears the columns, so a repeat is recognized until then.
    """
    return (row["settled_token_hash"], row["settled_digest"]) == (hash_of(claim.token), content_digest)


async def raise_refusal(database: Database, asked: Fenced[None]) -> NoReturn:
    """Raise the reason why a statement refused the caller or the claim, in the order of wire 3 and 8."""
    await require_caller(database, asked.bearer)
    check_claim(await find_claim(database, asked.claim), asked.claim)
    raise retry_later("claim")


def retry_later(what: str) -> KernelOverloaded:
    """Return the error for a lost race: nothing was changed, and a retry is likely to succeed."""
    return KernelOverloaded(f"the {what} met another one, try again", retry_after_seconds=0.1)
