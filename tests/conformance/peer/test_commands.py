"""Each `cg` against the other's server: the same commands, the same answers.

Every test runs twice: the reference's `cg` at our kernel, and ours at the reference's server.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cgworker.wire.turns import CONVERSATION_KIND
from tests.conformance.peer.desk import REQUESTER, Desk, profile
from tests.conformance.peer.site import PROJECT
from tests.conformance.peer.software import OURS, Home, their_client

ANSWER = """echo '{"answer":42}' > $CG_FINAL_FILE"""


@pytest.fixture(scope="module", params=["their-cg-our-kernel", "our-cg-their-kernel"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """A `cg`, set up in the home of the other's operator, with a requester."""
    theirs = request.param == "their-cg-our-kernel"
    site = request.getfixturevalue("our_site" if theirs else "their_site")
    desk = Desk(Home(site.home, their_client() if theirs else OURS), site)
    desk.cg.result(
        "setup", "project", "client-config", "--project-id", PROJECT,
        "--base-url", site.url, "--admin-base-url", site.url,
    )  # fmt: skip
    desk.join_requester()
    return desk


@pytest.fixture
def worker(desk: Desk) -> str:
    """An agent of the test's own."""
    return desk.join_anew()


def test_an_agent_joins_with_a_code(desk: Desk) -> None:
    """It gets a profile with a private token file, and can call the kernel at once."""
    joined = desk.join("joiner")
    found = desk.cg.result(
        "agent", "get", "--profile", joined, "--project-id", PROJECT, "--agent-id", "joiner"
    )
    assert (found["agent_id"], found["accepts_work"]) == ("joiner", True)
    tokens = list((desk.site.home / ".local/share/commonground/credentials" / joined).iterdir())
    assert [path.stat().st_mode & 0o777 for path in tokens] == [0o600]


def test_a_reporter_is_admitted_and_its_profile_kept(desk: Desk) -> None:
    """`profile ensure-agent` asks once; afterwards the credential it has is good."""
    words = (
        "profile", "ensure-agent", "--profile", f"{PROJECT}/reporter", "--project-id", PROJECT,
        "--requested-agent-id", "reporter", "--runtime-kind", "test.v1", "--display-name", "Reporter",
    )  # fmt: skip
    first, again = desk.cg.result(*words), desk.cg.result(*words)
    assert first["status"] == "ready"
    assert again["credential_id"] == first["credential_id"]


def test_a_turn_goes_from_dispatch_to_its_answer(desk: Desk, worker: str) -> None:
    """The whole path: queued, not there yet, worked, waited for, read."""
    turn_id = desk.dispatch(worker)
    assert desk.turn("get", turn_id)["state"] == "queued"
    assert _work_once(desk, worker, ANSWER)["finished"] is True
    waited = desk.turn("wait", turn_id)
    assert (waited["outcome"], waited["final_payload"]) == ("succeeded", {"answer": 42})
    roles = [item["record"]["record_role"] for item in desk.turn("context", turn_id)["semantic_items"]]
    assert roles == ["bootstrap", "deliverable"]


def test_waiting_ends_in_time(desk: Desk, worker: str) -> None:
    """A turn that nobody works gives a timeout, as an error of the command's own."""
    turn_id = desk.dispatch(worker)
    said = desk.cg.run(
        "turn", "wait", "--profile", profile(REQUESTER), "--project-id", PROJECT,
        "--turn-id", turn_id, "--timeout-seconds", "0.2", "--poll-interval-ms", "50",
    )  # fmt: skip
    assert (said.exit_code, said.error["code"], said.error["status"]) == (1, "timeout", 408)


def test_a_repeated_dispatch_is_the_same_turn(desk: Desk, worker: str) -> None:
    """With another payload it is refused."""
    words = desk.dispatch_words(worker, f"twice-{worker}", '{"n":1}')
    assert desk.cg.result(*words) == desk.cg.result(*words)
    refused = desk.cg.run(*desk.dispatch_words(worker, f"twice-{worker}", '{"n":2}'))
    assert (refused.exit_code, refused.error["code"], refused.error["status"]) == (1, "conflict", 409)


def test_a_failing_command_fails_its_turn_in_its_own_words(desk: Desk, worker: str) -> None:
    """The failure file is merged into the report, and the command's user sees exit status 1."""
    turn_id = desk.dispatch(worker)
    said = desk.cg.run(
        "worker", "once", "--profile", profile(worker),
        "--command", "sh", "-c", """echo '{"why":"rain"}' > $CG_FAILURE_FILE; exit 3""",
    )  # fmt: skip
    assert (said.exit_code, said.ok, said.result["outcome"]) == (1, True, "failed")
    found = desk.turn("get", turn_id)
    expected = {"error": "worker_command_failed", "child_exit_code": 3, "why": "rain"}
    assert (found["final_record_role"], found["final_payload"]) == ("error_report", expected)


def test_a_command_suspends_its_turn_and_it_is_resumed(desk: Desk, worker: str) -> None:
    """The suspend file wins; the target resumes; the next run finishes."""
    turn_id = desk.dispatch(worker)
    suspended = _work_once(desk, worker, """echo '{"reason":"wait","note":"n"}' > $CG_SUSPEND_FILE""")
    assert (suspended["suspended"], suspended["reason"]) == (True, "wait")
    assert desk.turn("get", turn_id)["state"] == "suspended"
    resumed = desk.cg.result(
        "turn", "resume", "--project-id", PROJECT, "--turn-id", turn_id, "--requested-by", worker
    )
    assert resumed["state"] == "queued"
    assert _work_once(desk, worker, ANSWER)["outcome"] == "succeeded"


def test_a_loop_works_all_turns_there_are(desk: Desk, worker: str) -> None:
    """Each once, oldest first, and an empty claim ends a counted loop."""
    turns = [desk.dispatch(worker) for _ in range(2)]
    looped = desk.cg.result(
        "worker", "loop", "--profile", profile(worker), "--max-iterations", "5",
        "--command", "sh", "-c", ANSWER,
    )  # fmt: skip
    assert (looped["iterations"], looped["claimed_count"]) == (3, 2)
    assert [desk.turn("get", turn_id)["outcome"] for turn_id in turns] == ["succeeded", "succeeded"]


def test_a_claim_is_worked_step_by_step(desk: Desk, worker: str, tmp_path: Path) -> None:
    """Claim, renew, append, dispatch a child, finish; the lineage shows the child."""
    helper, turn_id = desk.join_anew(), desk.dispatch(worker)
    claim_file, payload_file = tmp_path / "claim.json", tmp_path / "payload.json"
    payload_file.write_text('{"step":1}')
    held = "--claim-file", str(claim_file)
    claimed = desk.claim(
        "next", worker, "--project-id", PROJECT, "--agent-id", worker, "--claim-out-file", str(claim_file)
    )
    assert (claimed["claimed"], claimed["turn_id"]) == (True, turn_id)
    assert desk.claim("renew", worker, *held)["recommended_interval_seconds"] == 15.0
    assert desk.claim("append", worker, *held, "--payload-file", str(payload_file))["role"] == "progress"
    child = desk.claim(
        "dispatch-child", worker, *held, "--requested-by", worker, "--target-agent", helper,
        "--payload-file", str(payload_file), "--dispatch-key", f"child-of-{worker}",
    )  # fmt: skip
    finished = desk.claim(
        "finish", worker, *held, "--outcome", "succeeded", "--payload-file", str(payload_file)
    )
    assert (finished["state"], finished["final_payload"]) == ("closed", {"step": 1})
    lineage = desk.project("turn", "lineage", "--turn-id", turn_id)
    assert [found["turn_id"] for found in lineage["direct_children"]] == [child["turn_id"]]


def test_a_claim_is_no_good_once_its_turn_is_closed(desk: Desk, worker: str, tmp_path: Path) -> None:
    """Renewing it, or finishing otherwise, is refused by the fence."""
    desk.dispatch(worker)
    claim_file = str(tmp_path / "claim.json")
    desk.claim("next", worker, "--project-id", PROJECT, "--agent-id", worker, "--claim-out-file", claim_file)
    desk.claim("finish", worker, "--claim-file", claim_file, "--outcome", "succeeded")
    for words in (("renew",), ("finish", "--outcome", "failed")):
        refused = desk.cg.run(
            "worker", "claim", words[0], "--profile", profile(worker), "--claim-file", claim_file, *words[1:]
        )
        assert (refused.exit_code, refused.error["code"], refused.error["status"]) == (1, "fencing", 409)


def test_a_claimed_command_ends_its_turn_itself(desk: Desk, worker: str, tmp_path: Path) -> None:
    """`claim run` hands the claim to its child, and takes its exit status."""
    turn_id = desk.dispatch(worker)
    kept = tmp_path / "claim.json"
    ran = desk.cg.run(
        "worker", "claim", "run", "--profile", profile(worker), "--project-id", PROJECT,
        "--agent-id", worker, "--", "sh", "-c", f"cp $CG_CLAIM_FILE {kept}; exit 7",
    )  # fmt: skip
    assert (ran.exit_code, ran.result["child_exit_code"]) == (7, 7)
    suspended = desk.claim("suspend", worker, "--claim-file", str(kept), "--reason", "later")
    assert (suspended["turn_id"], suspended["reason"]) == (turn_id, "later")


def test_a_drained_agent_gets_no_work_until_it_is_resumed(desk: Desk, worker: str) -> None:
    """Its turns wait."""
    desk.dispatch(worker)
    words = "--project-id", PROJECT, "--agent-id", worker
    assert desk.cg.result("agent", "drain", *words)["accepts_work"] is False
    assert _work_once(desk, worker, ANSWER) == {"claimed": False}
    assert desk.cg.result("agent", "resume", *words)["accepts_work"] is True
    assert _work_once(desk, worker, ANSWER)["outcome"] == "succeeded"


def test_a_project_shows_its_agents_offers_turns_and_events(desk: Desk, worker: str) -> None:
    """All pages can be read by the other's client."""
    turn_id = desk.dispatch(worker)
    agents = desk.project("agent", "list", "--accepts-work-only", "--capability", CONVERSATION_KIND)
    assert worker in [agent["agent_id"] for agent in agents["items"]]
    offers = desk.project("offer", "list", "--agent-id", worker)
    assert [offer["turn_kind"] for offer in offers["items"]] == [CONVERSATION_KIND]
    offer = desk.project("offer", "get", "--turn-kind", CONVERSATION_KIND, "--agent-id", worker)
    assert offer == offers["items"][0]
    turns = desk.project("turn", "list", "--target-agent-id", worker, "--state", "queued")
    assert [turn["turn_id"] for turn in turns["items"]] == [turn_id]
    events = desk.project("feed", "--limit", "500")["items"]
    spawned = [event["subject_id"] for event in events if event["event_type"] == "turn.spawned"]
    assert turn_id in spawned


def test_a_report_is_submitted_once(desk: Desk, worker: str, tmp_path: Path) -> None:
    """A repeat answers the same turn."""
    manifest = tmp_path / "manifest.json"
    record = {"role": "note", "payload": {"x": 1}}
    manifest.write_text(
        json.dumps({"request_id": worker, "records": [record], "final_payload": {"ok": True}})
    )
    words = "--project-id", PROJECT, "--agent-id", worker, "--manifest-file", str(manifest)
    first, again = (desk.cg.result("report", "work-memory", *words) for _ in range(2))
    assert (first["status"], again["status"]) == ("submitted", "already_submitted")
    assert (again["turn"], again["record_refs"]) == (first["turn"], first["record_refs"])


def test_a_smoke_test_goes_through_a_running_loop(desk: Desk, worker: str) -> None:
    """Offer, dispatch, wait, context: in one command."""
    loop = ("worker", "loop", "--profile", profile(worker), "--idle-sleep-seconds", "0.1")
    with desk.cg.running(*loop, "--command", "sh", "-c", ANSWER):
        smoke = desk.cg.result(
            "smoke", "pair", "--from", profile(REQUESTER), "--to", worker, "--timeout-seconds", "20"
        )
    assert smoke["terminal_payload"] == {"answer": 42}
    assert smoke["terminal"]["outcome"] == "succeeded"


def test_what_is_not_there_is_said_to_be_not_there(desk: Desk) -> None:
    """Errors of the kernel arrive with their code and status."""
    said = desk.cg.run(
        "turn", "get", "--profile", profile(REQUESTER), "--project-id", PROJECT, "--turn-id", "T-999999"
    )
    assert (said.exit_code, said.error["code"], said.error["status"]) == (1, "not_found", 404)


def _work_once(desk: Desk, agent_id: str, script: str) -> dict[str, object]:
    result: dict[str, object] = desk.cg.result(
        "worker", "once", "--profile", profile(agent_id), "--command", "sh", "-c", script
    )
    return result
