"""The tree of errors."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cgworker import errors
from cgworker.errors import (
    REFUSALS,
    CommonGroundError,
    HandlerFailed,
    InvalidRequest,
    KernelLacks,
    KernelOverloaded,
    KernelRefused,
    ProfileError,
)

CLASSES = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, CommonGroundError)
]


def make(cls: type[CommonGroundError]) -> CommonGroundError:
    """An error of this class, whatever it asks for."""
    if cls is InvalidRequest:
        return InvalidRequest([{"type": "missing", "loc": ["body", "agent"], "msg": "Field required"}])
    if cls is HandlerFailed:
        return HandlerFailed({"error": "it_broke"})
    if cls is ProfileError:
        return ProfileError("profile_missing", "CLI profile not found: p/a", status=404)
    if cls is KernelLacks:
        return KernelLacks("telling turns something", "http://127.0.0.1:8000")
    return cls("what happened")


def drawn() -> Iterator[tuple[str, str, str | None]]:
    """Each line of the drawing: a class, the one it hangs under, and the status beside it."""
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│ ├└─]*)(\w+)(?:\s+(\d{3})(?!,))?", line):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            yield found[2], above[depth - 1] if depth else "Exception", found[3]


def test_the_drawing_is_the_tree() -> None:
    """The docstring shows every class once, under its parent."""
    assert {name: parent for name, parent, _ in drawn()} == {
        cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES
    }
    assert len(list(drawn())) == len(CLASSES)


def test_the_drawing_shows_the_status_of_each() -> None:
    """Where a number stands beside a class, it is the class's status."""
    by_name = {cls.__name__: cls for cls in CLASSES}
    shown = {name: int(status) for name, _, status in drawn() if status}
    assert shown == {name: by_name[name].status for name in shown}
    assert len(shown) >= 10


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_can_be_caught_as_one_of_ours(cls: type[CommonGroundError]) -> None:
    """It has a code, a status and a message, and says of itself when it is raised."""
    error = make(cls)
    assert isinstance(error, CommonGroundError)
    assert str(error) == error.message != ""
    assert re.fullmatch(r"[a-z_]+", error.code)
    assert error.status == 2 or 400 <= error.status <= 599
    assert "__doc__" in vars(cls)
    assert cls.__doc__


def test_a_kernels_refusal_is_named_by_its_class() -> None:
    """The word in the `error` key of an answer leads to the class of that name."""
    assert {name: cls.__name__ for name, cls in REFUSALS.items()} == {name: name for name in REFUSALS}
    assert {cls.status for cls in REFUSALS.values()} == {401, 403, 404, 409, 422}
    for cls in REFUSALS.values():
        assert cls.code == re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()


def test_what_an_answer_says_stays_with_its_error() -> None:
    """A code or status of one answer does not become the class's."""
    refused = KernelRefused("no", code="join_code_used", status=403)
    overloaded = KernelOverloaded("busy", status=429, retry_after_seconds=7)
    assert (refused.code, refused.status) == ("join_code_used", 403)
    assert (overloaded.status, overloaded.retry_after_seconds) == (429, 7)
    assert (KernelRefused.code, KernelRefused.status) == ("bad_request", 400)
    assert KernelOverloaded("busy").status == 503


def test_an_invalid_request_names_every_place() -> None:
    """Its text can be shown to a person, its faults to a program."""
    faults: list[dict[str, object]] = [
        {"type": "missing", "loc": ["body", "records", 1, "role"], "msg": "Field required"},
        {"type": "json_invalid", "loc": [], "msg": "JSON decode error"},
    ]
    error = InvalidRequest(faults)
    assert str(error) == "body.records.1.role: Field required; body: JSON decode error"
    assert list(error.faults) == faults
