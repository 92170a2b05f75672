"""Every recorded call of the reference's `cg`, made with ours: equal, or different by a decision.

Compared are exit status and the envelope, up to ids, times, tokens, hashes and addresses. Not compared are
the wording of `invalid_arguments` (difference 16) and stderr, where ours says what to do.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.conformance.cli_replay import RECORDED_URL, Done, Replay, recorded, steps


@frozen
class Difference:
    """A step in which ours differs on purpose.

    Attributes:
        decision: its number in decisions.md.
        exit_code: ours.
        contains: what our envelope, or what else the step shows, has in it.
    """

    decision: int
    exit_code: int | None
    contains: Mapping[str, Any]


def _failed(error: str) -> Mapping[str, Any]:
    return {
        "ok": True,
        "result": {"outcome": "failed", "failure_payload": {"error": error, "child_exit_code": 0}},
    }


_HANDED_BACK = {"turn_right_after": {"state": "queued", "outcome": None}}

DIFFERENCES: Mapping[str, Difference] = {
    "01-setup-seed-no-dsn": Difference(15, 0, {"ok": True, "result": {"seeded": True}}),
    "12-local-run-ignores-lease-env": Difference(
        2, None, {"readyz": {"claim_timeout_seconds": 7, "claim_reaper_interval_seconds": 0.5}}
    ),
    "32-dispatch-scalar-payload": Difference(1, 0, {"ok": True, "result": {"request_id": "cli-s"}}),
    "58-worker-once-invalid-json-final": Difference(17, 1, _failed("worker_final_invalid")),
    "59-turn-after-invalid-json-final": Difference(
        17, 0, {"ok": True, "result": {"state": "closed", "outcome": "failed"}}
    ),
    "61-worker-once-final-scalar": Difference(1, 0, {"ok": True, "result": {"outcome": "succeeded"}}),
    "65-worker-once-command-not-found": Difference(
        17, 1, {"ok": False, "error": {"code": "file_not_found", "status": 404}}
    ),
    "66-worker-once-empty-final-file": Difference(17, 1, _failed("worker_final_invalid")),
    "67-worker-once-non-utf8-final": Difference(17, 1, _failed("worker_final_invalid")),
    "68-worker-once-nan-final": Difference(17, 1, _failed("worker_final_invalid")),
    "69-worker-once-suspend-bad-shape": Difference(17, 1, _failed("worker_suspend_invalid")),
    "71-child-env-of-worker-once": Difference(24, None, {"child_cg_env": {"CG_EXTRA": "2"}}),
    "73-child-env-of-worker-loop": Difference(24, None, {"child_cg_env": {"CG_EXTRA": "2"}}),
    "75-child-env-of-worker-claim-run": Difference(
        24, None, {"child_cg_env": {"CG_EXTRA": "2", "CG_AGENT_CREDENTIAL_TOKEN_X": "3"}}
    ),
    "82-claim-file-mode": Difference(25, None, {"mode": "0o600"}),
    "107-report-bad-manifest": Difference(
        1, 1, {"ok": False, "error": {"code": "invalid_input", "status": 422}}
    ),
    "110-worker-loop-idle-sigterm": Difference(21, 0, {"ok": True, "result": {"claimed_count": 1}}),
    "112-worker-loop-sigterm-mid-turn": Difference(21, 0, _HANDED_BACK),
    "113-worker-loop-sigint-mid-turn": Difference(21, 0, _HANDED_BACK),
    "129-server-down-worker-loop": Difference(23, 0, {"ok": True, "result": {"claimed_count": 0}}),
}

# Secrets that a child of ours does not see (difference 24).
_HIDDEN = {"CG_CLAIM_FOO", "PG_DSN"}


@frozen
class Played:
    """All steps, done."""

    replay: Replay
    done: Mapping[str, Done]

    def plain(self, value: Any, *, theirs: bool) -> Any:
        """The value without what differs from run to run."""
        if isinstance(value, dict):
            return {key: self._plain_field(key, each, theirs) for key, each in value.items()}
        if isinstance(value, list):
            return [self.plain(each, theirs=theirs) for each in value]
        return self._plain_text(value, theirs) if isinstance(value, str) else value

    def _plain_field(self, key: str, value: Any, theirs: bool) -> Any:
        if key in ("waited_seconds", "poll_count", "project_turn_seq", "token", "join_code"):
            return f"<{key}>"
        return self.plain(value, theirs=theirs)

    def _plain_text(self, text: str, theirs: bool) -> str:
        if theirs:
            text = re.sub(r"T-\d+", lambda turn: self.replay.turn_ids.get(turn[0], turn[0]), text)
        else:
            text = text.replace(str(self.replay.home), "<home>").replace(str(self.replay.work), "<work>")
            text = text.replace(self.replay.url, RECORDED_URL)
        for pattern, name in _VARYING:
            text = pattern.sub(name, text)
        return text


_VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"[0-9a-f]{60,64}"), "<hash>"),
    (re.compile(r"(record|cred|aginv|agjoinreq)_[A-Za-z0-9_-]+"), r"<\1>"),
    (re.compile(r"(cgjoin_[A-Za-z0-9_-]+|<join-code>)"), "<join-code>"),
    (re.compile(r"(/tmp|<tmp>|/[^ ]*)/cg_worker_(adapter|claim_run)_[^/]*"), r"<tmp>/\2"),
    (re.compile(r"-\d{10}\b"), "-<seconds>"),
]


@pytest.fixture(scope="module")
def played(dsn: str) -> Iterator[Played]:
    """All steps, in their order."""
    with tempfile.TemporaryDirectory(prefix="cg-replay-") as folder:
        replay = Replay(Path(folder), dsn)
        try:
            yield Played(replay, {step: replay.play(step) for step in steps()})
        finally:
            replay.end_all()


def envelope(stdout: Any) -> Any:
    """An envelope as it is compared: the wording of wrong usage is ours."""
    if isinstance(stdout, dict) and stdout.get("error", {}).get("code") == "invalid_arguments":
        return {**stdout, "error": {**stdout["error"], "message": "<ours>"}}
    return stdout


def files(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A listing of files as it is compared: folders are closed to others (difference 25)."""
    return [
        {
            "path": re.sub(r"cred_[A-Za-z0-9_-]+", "<cred>", each["path"]),
            "mode": "0o700" if each["path"].endswith("/") else each["mode"],
            "json": each.get("json"),
        }
        for each in listed
    ]


@pytest.mark.parametrize("step", [step for step in steps() if step not in DIFFERENCES])
def test_a_recorded_call_comes_out_the_same(played: Played, step: str) -> None:
    """Exit status and envelope, or whatever else the recording shows, are the reference's."""
    theirs, ours = recorded(step), played.done[step]
    assert ours.exit_code == theirs.get("exit_code"), ours
    assert played.plain(envelope(ours.stdout_json), theirs=False) == played.plain(
        envelope(theirs.get("stdout_json")), theirs=True
    )
    for name, fact in ours.facts.items():
        expected = theirs[name]
        if name == "files":
            fact, expected = files(fact), files(expected)
        assert played.plain(fact, theirs=False) == played.plain(expected, theirs=True)


@pytest.mark.parametrize("step", DIFFERENCES)
def test_a_call_that_differs_does_so_by_a_decision(played: Played, step: str) -> None:
    """Ours is what the decision says; a difference that is none is no longer listed."""
    ours, difference = played.done[step], DIFFERENCES[step]
    assert ours.exit_code == difference.exit_code, ours
    shown = ours.facts or ours.stdout_json
    assert pick(shown, difference.contains) == difference.contains
    if difference.decision == 24:
        assert not _HIDDEN & ours.facts["child_cg_env"].keys()
    assert (ours.exit_code, ours.stdout_json or ours.facts) != (
        recorded(step).get("exit_code"),
        recorded(step).get("stdout_json"),
    )


def pick(value: Any, like: Any) -> Any:
    """The part of a value that `like` speaks of."""
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        return {key: pick(value.get(key), like[key]) for key in like}
    return value
