"""Every wire type survives the journey to JSON and back."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgworker.wire.converter import ANSWERS, REQUESTS, dumps, loads
from tests.wire.strategies import instances, wire_types

WIRE_TYPES = sorted(set(wire_types()), key=lambda cls: cls.__name__)
SECRETS = {"token", "credential", "join_code", "invitation_code", "agent_credential_token"}
of_each_type = pytest.mark.parametrize("cls", WIRE_TYPES, ids=lambda cls: cls.__name__)


@of_each_type
@settings(max_examples=12)
@given(data=st.data())
def test_what_is_written_is_read_back_by_both_converters(
    cls: type[attrs.AttrsInstance], data: st.DataObject
) -> None:
    """Requests and answers alike: nothing is lost, added or turned into something else."""
    sent = data.draw(instances(cls))
    travelled = dumps(sent)
    for converter in (REQUESTS, ANSWERS):
        received = converter.structure(loads(travelled), cls)
        assert received == sent
        assert dumps(received) == travelled


@of_each_type
def test_wire_types_are_frozen_and_named_by_keyword(cls: type[Any]) -> None:
    """A value on the wire never changes, and its fields have no order to rely on."""
    parameters = inspect.signature(cls).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert "__setattr__" in vars(cls)


@of_each_type
@settings(max_examples=5)
@given(data=st.data())
def test_no_secret_is_shown_by_repr(cls: type[attrs.AttrsInstance], data: st.DataObject) -> None:
    """Tokens, codes and credentials stay out of logs and tracebacks."""
    value = data.draw(instances(cls))
    for name in SECRETS & set(attrs.fields_dict(cls)):
        if isinstance(getattr(value, name), str):
            assert f"{name}=" not in repr(value)
