"""Replaying what was recorded of the reference, and telling where an answer differs.

A replay puts its own secrets in the place of placeholders and learns, as it goes, which of our ids stands for
which recorded one; from then on the two must stand for each other everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from attrs import define, field, frozen

RECORDINGS = Path(__file__).parent / "recordings" / "http"

# What ours is another of: credential, invite and request ids, tokens, join codes, record ids, UUIDs, and turn
# ids, since where the reference answered 500 a turn may be born here.
_ID = re.compile(
    r"<[^<>]+>|\b(cred|aginv|agjoinreq)_[\w-]{16,}|\brecord_[0-9a-f]{32}\b|\bT-[0-9]+\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")
_RECORDED_ON = "2026-11-2"  # instants of other days were written into requests, and are kept
_HASH = re.compile(r"[0-9a-f]{64}")
_LEDGER_NUMBERS = ("ledger_seq", "next_after_ledger_seq")

ADDED = {
    ("claims:renew", "$.stop_requested is added"),  # difference 8
    ("claims:renew", "$.record_count is added"),  # difference 32
}


@frozen
class Step:
    """One recorded exchange; `nth` counts the steps of that name in their scenario, from 1."""

    name: str
    nth: int
    request: Mapping[str, Any]
    response: Mapping[str, Any]

    @property
    def title(self) -> str:
        return self.name if self.nth == 1 else f"{self.name} #{self.nth}"

    @property
    def route(self) -> str:
        """The last part of the path."""
        return str(self.request["path"]).rpartition("/")[2]


@frozen
class Pause:
    """The recording waited here for leases, credentials or invites to end."""

    seconds: float


def scenarios() -> list[str]:
    """The names of the recorded scenarios, in order."""
    return sorted(path.stem for path in RECORDINGS.glob("*.json"))


def steps_of(scenario: str) -> Iterator[Step | Pause]:
    """What a scenario did."""
    seen: dict[str, int] = {}
    for entry in json.loads((RECORDINGS / f"{scenario}.json").read_text()):
        if "request" not in entry:
            if slept := re.match(r"sleep ([\d.]+)s", entry["note"]):
                yield Pause(float(slept[1]))
            continue
        name = entry["step"]
        seen[name] = seen.get(name, 0) + 1
        yield Step(name, seen[name], entry["request"], entry["response"])


@define
class Replay:
    """What has been learned so far, over all scenarios on one database."""

    known: dict[str, str] = field(factory=dict)
    ledger_numbers: dict[int, int] = field(factory=dict)
    beyond: set[str] = field(factory=set)  # content that we took where the reference answered 500

    # ------------------------------------------------------------ asking

    async def ask(self, client: httpx.AsyncClient, step: Step) -> httpx.Response:
        """Send the step's request, with our secrets and ids."""
        request = step.request
        headers = {name: self.ours(value) for name, value in request["headers"].items()}
        query = {name: self._our_query(name, value) for name, value in (request["query"] or {}).items()}
        content = request.get("raw_body")
        if content is None and request["json"] is not None:
            content = json.dumps(self._our_body(step))
            headers.setdefault("Content-Type", "application/json")
        return await client.request(
            request["method"],
            self.ours(request["path"]),
            headers=headers,
            params=query or None,
            content=None if content is None else self.ours(content),
        )

    def ours(self, text: str) -> str:
        """The text with our ids for the recorded ones."""
        return _ID.sub(lambda found: self._own(found[0]), text)

    def _own(self, recorded: str) -> str:
        """Our id for a recorded one; of the two tokens that were never good, ones that are as bad."""
        if recorded == "<token:unknown-credential-id>":
            return f"cgac_cred_{'0' * 24}.{'0' * 43}"
        if recorded == "<token:wrong-secret>":
            return f"{self.known['<token:auth-a>'].partition('.')[0]}.{'0' * 43}"
        return self.known.get(recorded, recorded)

    def _our_query(self, name: str, value: Any) -> Any:
        if name == "after_ledger_seq" and str(value).isdigit():
            return self.ledger_numbers.get(int(value), value)
        return value

    def _our_body(self, step: Step) -> Any:
        body = step.request["json"]
        if isinstance(body, dict) and isinstance(answer := step.response.get("json"), dict):
            return body | _moved_expiry(body, answer)
        return body

    # ------------------------------------------------------------ comparing

    def differences(self, step: Step, ours: httpx.Response) -> list[str]:
        """Where our answer is not the recorded one; learns from it as well."""
        recorded = step.response
        if ours.status_code != recorded["status"]:
            self.beyond |= set(_boxes_of(ours))
            return [f"status: {recorded['status']} became {ours.status_code} {ours.text[:200]}"]
        found = [
            f"header {name}: {value} became {ours.headers.get(name)}"
            for name, value in recorded["headers"].items()
            if ours.headers.get(name) != value
        ]
        if "json" not in recorded:
            return found + ([] if ours.text == recorded["text"] else [f"text: {ours.text!r}"])
        if ours.status_code == 422:
            return found + list(self._compare_places(recorded["json"], ours.json()))
        differing = self._compare(recorded["json"], ours.json(), "$")
        return found + [line for line in differing if (step.route, line) not in ADDED]

    def _compare_places(self, recorded: Any, ours: Any) -> Iterator[str]:
        """A 422 names the same places; the wording is ours, and the input is not echoed."""
        if any("input" in fault for fault in ours["detail"]):
            yield "a fault echoes its input"
        places = [[fault["loc"] for fault in detail["detail"]] for detail in (recorded, ours)]
        if places[0] != places[1]:
            yield f"places: {places[0]} became {places[1]}"

    def _compare(self, recorded: Any, ours: Any, at: str) -> Iterator[str]:
        if isinstance(recorded, dict) and isinstance(ours, dict):
            yield from (f"{at}.{name} is missing" for name in recorded if name not in ours)
            yield from (f"{at}.{name} is added" for name in ours if name not in recorded)
            for name in (name for name in recorded if name in ours):
                yield from self._compare(recorded[name], ours[name], f"{at}.{name}")
        elif isinstance(recorded, list) and isinstance(ours, list):
            ours = [item for item in ours if not (self.beyond and self.beyond & set(_texts_in(item)))]
            if len(recorded) != len(ours):
                yield f"{at}: {len(recorded)} items became {len(ours)}"
            for place, (one, other) in enumerate(zip(recorded, ours, strict=False)):
                yield from self._compare(one, other, f"{at}[{place}]")
        elif not self._is_same(recorded, ours, at):
            yield f"{at}: {recorded!r} became {ours!r}"

    def _is_same(self, recorded: Any, ours: Any, at: str) -> bool:
        if isinstance(recorded, str) and isinstance(ours, str):
            return self._is_same_text(recorded, ours)
        if at.endswith(_LEDGER_NUMBERS) and isinstance(ours, int) and recorded:
            return self.ledger_numbers.setdefault(recorded, ours) == ours
        if at.endswith("project_turn_seq"):
            return self._is_same_text(f"T-{recorded}", f"T-{ours}")
        return type(recorded) is type(ours) and bool(recorded == ours)

    def _is_same_text(self, recorded: str, ours: str) -> bool:
        if _INSTANT.fullmatch(recorded) and recorded.startswith(_RECORDED_ON):
            return _INSTANT.fullmatch(ours) is not None
        if _ID.fullmatch(recorded):
            return self.known.setdefault(recorded, ours) == ours
        return self.ours(recorded) == ours or self._is_hash_of_random(recorded, ours)

    def _is_hash_of_random(self, recorded: str, ours: str) -> bool:
        """Hashes follow from what they are of, but for those of admissions, which name random ids."""
        if not (_HASH.fullmatch(recorded) and _HASH.fullmatch(ours)):
            return False
        return self.known.setdefault(recorded, ours) == ours

    def learn_claim(self, step: Step, ours: httpx.Response) -> None:
        """Remember the token of a claim that the reference gave in a later step only."""
        claim = (
            ours.json() if ours.headers.get("content-type") == "application/json" and ours.content else None
        )
        if step.response.get("json", ...) is None and isinstance(claim, dict) and "token" in claim:
            turn = next(name for name, own in self.known.items() if own == claim["turn_id"])
            names = [f"<claim-token:{turn}>", *(f"<claim-token:{turn}#{nth}>" for nth in range(2, 9))]
            self.known[next(name for name in names if name not in self.known)] = claim["token"]

    def unknown_claim(self, step: Step) -> str | None:
        """The turn whose claim the step shows, where that was not recorded."""
        shown = re.search(r"<claim-token:(T-[0-9]+)>", json.dumps(step.request["json"]))
        return shown[1] if shown and shown[0] not in self.known else None


def _boxes_of(ours: httpx.Response) -> Iterator[str]:
    if ours.status_code == 200 and "cardbox_id" in ours.json():
        yield ours.json()["cardbox_id"]


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts_in(inner)


def _moved_expiry(body: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, str]:
    """An instant in the request, as far from now as it was from then."""
    issued = answer.get("credential")
    if not isinstance(issued, dict) or not str(body.get("expires_at")).startswith(_RECORDED_ON):
        return {}
    distance = datetime.fromisoformat(issued["expires_at"]) - datetime.fromisoformat(issued["created_at"])
    return {"expires_at": (datetime.now(UTC) + distance).isoformat()}
