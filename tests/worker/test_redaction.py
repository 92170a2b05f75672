"""What a failed turn tells the public."""

from __future__ import annotations

import pytest

from cgworker.worker.redaction import error_report, loggable, redact


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("cannot reach postgresql://admin:hunter2@db/x", "hunter2"),
        ("401 for Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("token cgac_cred_abc.defg refused", "defg"),
        ("join with cgjoin_abcdefgh", "cgjoin_abcdefgh"),
        ("key sk-proj-0123456789abcdefghij invalid", "0123456789abcdefghij"),
        ("connect(host=db, password=geheim1)", "geheim1"),
        ("url?api_key=verysecret&x=1", "verysecret"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, hidden: str) -> None:
    """Exception texts become public records."""
    assert hidden not in redact(text)
    assert "***" in redact(text)


def test_known_secrets_are_hidden_whatever_they_look_like() -> None:
    """The claim token has no shape of its own."""
    assert redact("it was Zm9vYmFyYmF6", ["Zm9vYmFyYmF6"]) == "it was ***"


def test_ordinary_text_is_left_as_it_is() -> None:
    """A report is for reading."""
    text = "KeyError: 'name' in step 3 of https://example.org/a/b?c=d (tokens: 15)"
    assert redact(text) == text


def test_a_report_names_the_type_and_is_cut() -> None:
    """Two thousand characters are enough to act on."""
    report = error_report(ValueError("x" * 10_000), [])
    assert (report["error"], report["type"]) == ("handler_error", "ValueError")
    assert len(report["message"]) == 2000


def test_an_exception_without_a_secret_is_logged_as_it_is() -> None:
    """People look for its class and its traceback."""
    error = ValueError("no such row")
    assert loggable(error, ["Zm9vYmFyYmF6"]) is error


def test_a_secret_in_a_cause_is_masked_as_well() -> None:
    """A traceback tells the whole chain."""
    try:
        try:
            raise ValueError("it was Zm9vYmFyYmF6")
        except ValueError as inner:
            raise KeyError("name") from inner
    except KeyError as error:
        told = str(loggable(error, ["Zm9vYmFyYmF6"]))
    assert "ValueError: it was ***" in told
    assert "KeyError: 'name'" in told
