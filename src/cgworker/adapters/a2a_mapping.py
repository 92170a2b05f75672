"""Translate the kernel's and the agent's terms into those of A2A."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from a2a.types import AgentSkill, Message
from a2a.utils.errors import (
    A2AError,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from cgworker.adapters.a2a_parts import NumberLost, value_of
from cgworker.durable.contract import faults_of
from cgworker.errors import (
    ConflictError,
    FencingError,
    ForbiddenError,
    InvalidRequest,
    KernelRefused,
    KernelTrouble,
    NotFoundError,
    UsageError,
)
from cgworker.wire.converter import dumps, loads
from cgworker.wire.projections import OfferEntry

MODES = ["text/plain", "application/json"]
"""The media types of an agent's input and output."""


def skill_of(kind: str, offer: OfferEntry | None) -> AgentSkill:
    """Return a turn kind as a skill for the agent card.

    Args:
        kind: the turn kind.
        offer: the agent's offer of it; None if it has published none.
    """
    purpose = (offer and offer.purpose) or f"Takes turns of kind {kind}."
    schema = offer.input_contract.get("json_schema") if offer else None
    description = f"{purpose}\n\nInput (JSON Schema): {dumps(schema).decode()}" if schema else purpose
    return AgentSkill(
        id=kind, name=kind, description=description, tags=[kind], input_modes=MODES, output_modes=MODES
    )


def answer_of(message: Message, schema: Any) -> Any:
    """Return the answer that a message gives to a question.

    Data is returned as it is. A text may stand for itself, for `{"text": ...}` or for the JSON in it,
    whichever matches the schema.

    Args:
        message: the message.
        schema: the JSON Schema of the answer.
    """
    value = value_of(message.parts)
    if not isinstance(value, dict) or value.keys() != {"text"}:
        return value
    try:
        candidates = [value["text"], value, loads(value["text"])]
    except ValueError:
        candidates = [value["text"], value]
    return next((each for each in candidates if not faults_of(each, schema)), value["text"])


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of the kernel into those of A2A.

    Raises:
        A2AError: the kernel refused a call, or gave no usable answer.
    """
    try:
        yield
    except A2AError:
        raise
    except (NumberLost, UsageError) as refused:
        raise InternalError(str(refused)) from refused
    except NotFoundError as unknown:
        raise TaskNotFoundError from unknown
    except (FencingError, ForbiddenError) as refused:
        raise UnsupportedOperationError(str(refused)) from refused
    except (InvalidRequest, ConflictError) as refused:
        raise InvalidParamsError(str(refused)) from refused
    except (KernelRefused, KernelTrouble) as trouble:
        raise InternalError(f"{trouble}; a message may be sent again with the same messageId") from trouble
