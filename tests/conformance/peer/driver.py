"""What the reference's client library does at our kernel; run by the reference's Python, never by ours.

    python driver.py STORY <given.json

`given` names the kernel, the project and two agents with their credentials.
What the story saw is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import httpx
from CommonGround.agent_client import (  # type: ignore[import-not-found]
    ClaimAutoRenewer,
    FinishTurnAction,
    HttpAgentClient,
    PollingWorker,
    RetryTurnAction,
    SuspendTurnAction,
)
from CommonGround.agent_registration import (  # type: ignore[import-not-found]
    AgentBirthSpec,
    AgentRegistrationProvenance,
)
from CommonGround.contracts import (  # type: ignore[import-not-found]
    AgentRef,
    DispatchAuthority,
    DispatchAuthorityMode,
    TurnOutcome,
)
from CommonGround.projection_client import ProjectionHttpClient  # type: ignore[import-not-found]

OFFER = {
    "turn_kind": "turn.conversation.v1",
    "purpose": "Talk.",
    "calling": {"operation": "dispatch", "authority_modes": [{"mode": "root_request"}]},
    "input_contract": {},
}


class Scene:
    """The clients of the two agents, `desk` and `asker`."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.project = given["project_id"]
        self.desk = self.ref(given["desk"]["agent_id"])
        self.asker = self.ref(given["asker"]["agent_id"])
        self.at_desk = self._client(HttpAgentClient, "desk")
        self.at_asker = self._client(HttpAgentClient, "asker")
        self.projections = self._client(ProjectionHttpClient, "asker")

    def ref(self, agent_id: str) -> Any:
        return AgentRef(project_id=self.project, agent_id=agent_id)

    def operator(self) -> Any:
        agent = self.ref("admin-service")
        return HttpAgentClient(
            base_url=self.given["base_url"], auth_token=self.given["operator_token"], agent=agent
        )

    def _client(self, kind: Any, who: str) -> Any:
        its = self.given[who]
        return kind(base_url=self.given["base_url"], auth_token=its["token"], agent=self.ref(its["agent_id"]))

    def dispatch(self, payload: Any, key: str) -> Any:
        return self.at_asker.dispatch(
            requested_by=self.asker,
            target_agent=self.desk,
            input_payload=payload,
            authority=DispatchAuthority(mode=DispatchAuthorityMode.ROOT_REQUEST, request_id=self.key(key)),
            dispatch_key=self.key(key),
        )

    def key(self, name: str) -> str:
        """Dispatch keys are the project's; this one is the story's own."""
        return f"{self.desk.agent_id}:{name}"

    def events(self, turn: Any) -> list[str]:
        return [event.event_type for event in self.at_asker.fetch_turn_feed(turn).items]

    def state(self, turn: Any) -> str:
        return str(self.at_asker.get_turn(turn).state)


def one_turn(scene: Scene) -> Any:
    """A turn from dispatch to its end, through every call under a claim."""
    turn, again = scene.dispatch({"n": 1}, "one"), scene.dispatch({"n": 1}, "one")
    claimed = scene.at_desk.claim_turn(scene.desk)
    renewal = scene.at_desk.renew_claim(claimed.claim)
    box = scene.at_desk.append_record(claimed.claim, {"step": 1})
    child = scene.at_desk.dispatch(
        requested_by=scene.desk,
        target_agent=scene.asker,
        input_payload="a part of it",
        authority=DispatchAuthority(mode=DispatchAuthorityMode.CHILD_DERIVATION, parent_claim=claimed.claim),
        dispatch_key=scene.key("one-child"),
    )
    scene.at_desk.suspend_turn(claimed.claim, reason="wait", note="for the child")
    suspended = scene.state(turn)
    scene.at_desk.resume_turn(scene.desk, turn, note="go on")
    handle = scene.at_desk.claim_turn_handle(scene.desk)
    scene.at_desk.finish_turn(handle, outcome=TurnOutcome.SUCCEEDED, final_payload={"n": 2})
    closed = scene.at_asker.get_turn(turn)
    context = scene.at_asker.fetch_context(turn)
    lineage = scene.projections.get_turn_lineage(project_id=scene.project, turn_id=turn.turn_id)
    return {
        "same_turn": turn == again,
        "context_turn": claimed.context.turn.turn == turn,
        "interval": renewal.recommended_interval_seconds,
        "suspended": suspended,
        "outcome": str(closed.outcome),
        "payload": closed.final_payload,
        "roles": [item.record.record_role for item in context.semantic_items],
        "appended": context.semantic_items[1].record.cardbox_ref.cardbox_id == box["cardbox_id"],
        "children": [entry.turn_id for entry in lineage.direct_children] == [child.turn_id],
        "events": scene.events(turn),
        "nothing_left": scene.at_desk.claim_turn(scene.desk) is None,
    }


def management(scene: Scene) -> Any:
    """Presence, metadata, drain, credentials, registration, stop, report."""
    desk, at_desk, operator = scene.desk, scene.at_desk, scene.operator()
    at_desk.heartbeat_agent_presence(desk)
    at_desk.update_agent_public_metadata(desk, public_metadata={"ui": {"label": "Desk"}})
    at_desk.drain_agent(desk, requested_by=desk)
    drained = at_desk.get_agent(desk)
    at_desk.resume_agent(desk, requested_by=desk)
    born = operator.register_agent_by_service(
        project_id=scene.project,
        spec=AgentBirthSpec(agent_id=f"born-of-{desk.agent_id}", role="r", capabilities=(), grants=()),
        provenance=AgentRegistrationProvenance(kind="test", external_ref="driver"),
    )
    operator.issue_agent_credential(born.agent, provenance_kind="test", provenance_ref="driver")
    listed = operator.list_agent_credentials(born.agent)
    credential_id = next(iter(listed.values()))[0]["credential_id"]
    operator.revoke_agent_credential(born.agent, credential_id)
    turn = scene.dispatch({}, "stopped")
    at_desk.request_stop_turn(turn, requested_by=desk)
    manifest = {"request_id": "r-1", "records": [{"role": "note", "payload": 1}], "final_payload": "done"}
    reports = [at_desk.submit_work_memory_report(desk, manifest) for _ in range(2)]
    return {
        "accepts_work": drained.accepts_work,
        "metadata": drained.public_metadata,
        "seen": drained.last_seen_at is not None,
        "resumed": at_desk.get_agent(desk).accepts_work,
        "unknown": at_desk.get_agent(scene.ref("nobody")),
        "status": next(iter(operator.list_agent_credentials(born.agent).values()))[0]["status"],
        "stop_requested": at_desk.is_stop_requested(turn),
        "reports": [report.status for report in reports],
        "same_report": reports[0].turn == reports[1].turn,
        "final": reports[0].final_payload,
        "events": [event.event_type for event in at_desk.fetch_agent_feed(desk).items],
    }


def refusals(scene: Scene) -> Any:
    """What the kernel refuses, and how that arrives."""
    turn = scene.dispatch({}, "refused")
    claim = scene.at_desk.claim_turn_handle(scene.desk)
    attempts = {
        "other payload": lambda: scene.dispatch({"other": 1}, "refused"),
        "resume running": lambda: scene.at_desk.resume_turn(scene.desk, turn),
        "stop of another's": lambda: scene.at_asker.request_stop_turn(turn, requested_by=scene.asker),
        "claim of another's": lambda: scene.at_asker.claim_turn(scene.desk),
        "another's claim": lambda: scene.at_asker.renew_claim(claim),
    }
    seen = {name: _refusal(attempt) for name, attempt in attempts.items()}
    scene.at_desk.finish_turn(claim, outcome=TurnOutcome.FAILED)
    seen["renew closed"] = _refusal(lambda: scene.at_desk.renew_claim(claim))
    return seen


def polling_worker(scene: Scene) -> Any:
    """`PollingWorker` through each of its results."""
    worker = PollingWorker(client=scene.at_desk, agent=scene.desk, handler=Obedient())
    seen = {}
    for word in Obedient.actions:
        turn = scene.dispatch(word, f"poll-{word}")
        seen[word] = [worker.run_once().action, scene.state(turn)]
    stopped = scene.dispatch("finish", "poll-stopped")
    scene.at_desk.request_stop_turn(stopped, requested_by=scene.desk)
    seen["stopped"] = [worker.run_once().action, str(scene.at_asker.get_turn(stopped).outcome)]
    seen["idle"] = [worker.run_once().action]
    return seen


class Obedient:
    """A handler that does what the turn's input says."""

    actions: ClassVar[dict[str, Callable[[], Any]]] = {
        "finish": lambda: FinishTurnAction(TurnOutcome.SUCCEEDED, {"done": True}),
        "suspend": lambda: SuspendTurnAction("wait", "please"),
        "retry": RetryTurnAction,
        "nothing": lambda: None,
        "raise": lambda: _raise(),
    }

    def handle_turn(self, context: Any, _client: Any, _claim: Any) -> Any:
        return self.actions[context.semantic_items[0].content.cards[0].content.text]()


def renewer(scene: Scene) -> Any:
    """`ClaimAutoRenewer` holds a claim for longer than its lease, and notices when it is gone."""
    turn = scene.dispatch({}, "renewed")
    claim = scene.at_desk.claim_turn_handle(scene.desk)
    renewing = ClaimAutoRenewer(scene.at_desk, claim=claim, interval_seconds=0.5)
    renewing.start()
    threading.Event().wait(scene.given["lease_seconds"] + 1)
    renewing.raise_if_unhealthy()
    state = scene.state(turn)
    scene.at_desk.finish_turn(claim, outcome=TurnOutcome.SUCCEEDED)
    renewing.stop()
    lost = ClaimAutoRenewer(scene.at_desk, claim=claim, interval_seconds=0.1)
    lost.start()
    threading.Event().wait(1)
    error = lost.fatal_error()
    lost.stop()
    return {"state_after_its_lease": state, "lost": type(error).__name__}


def projections(scene: Scene) -> Any:
    """Every page of the projection client."""
    turn = scene.dispatch({}, "shown")
    scene.at_desk.update_agent_public_metadata(scene.desk, public_metadata={"turn_offers": [OFFER]})
    pages, project = scene.projections, {"project_id": scene.project}
    agents = pages.list_agents(**project, agent_id=scene.desk.agent_id, enabled_only=True)
    offers = pages.list_turn_offers(**project, agent_id=scene.desk.agent_id)
    turns = pages.list_turns(**project, target_agent_id=scene.desk.agent_id, state="queued")
    feed = pages.fetch_project_feed(**project, limit=500)
    rest = pages.fetch_project_feed(**project, after_ledger_seq=feed.items[-2].ledger_seq)
    lineage = pages.get_turn_lineage(**project, turn_id=turn.turn_id)
    return {
        "agents": [agent.agent_id for agent in agents.items] == [scene.desk.agent_id],
        "offers": [offer.turn_kind for offer in offers.items],
        "turns": [entry.turn_id for entry in turns.items] == [turn.turn_id],
        "in_feed": turn.turn_id in [event.subject_id for event in feed.items],
        "goes_on": rest.items[0] == feed.items[-1],
        "itself": lineage.parent.turn_id == turn.turn_id,
    }


def _raise() -> None:
    raise RuntimeError("the handler broke")


def _refusal(attempt: Any) -> str | None:
    try:
        attempt()
    except httpx.HTTPStatusError as refused:
        return f"{refused.response.status_code} {refused.response.json()['error']}"
    return None


STORIES = [one_turn, management, refusals, polling_worker, renewer, projections]

if __name__ == "__main__":
    story = next(story for story in STORIES if story.__name__ == sys.argv[1])
    json.dump(story(Scene(json.load(sys.stdin))), sys.stdout)
