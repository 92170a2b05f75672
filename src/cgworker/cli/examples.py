"""An example of each command, for its help and for the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BEGIN = (
    "cg dev          # a kernel with a sample agent, on this machine",
    'cg ask hello "Is anybody there?"',
    "cg top          # what goes on",
)

_CLAIM = "--profile acme/desk --claim-file claim.json"
_DESK = "--profile acme/desk --project-id acme --agent-id desk"

# What a person types after `cg`, by the words of the command. A test parses each.
_ARGUMENTS: Mapping[str, str] = {
    "ask": "hello 'Is anybody there?'",
    "dispatch": """hello --payload-json '{"task": "Good night"}' --delay 10m""",
    "turn list": "--state suspended",
    "turn get": "T-7",
    "turn context": "T-7 --after-turn-seq 3",
    "turn wait": "T-7 --timeout-seconds 3600 --exit-status",
    "turn resume": "T-7",
    "turn stop": "T-7 --reason 'the wrong file'",
    "turn feed": "T-7",
    "turn questions": "",
    "turn answer": "T-7 --json true",
    "turn decline": "T-7 --reason 'not on a Friday'",
    "turn tell": "T-7 'use the other file'",
    "turn redo": "T-7 --keep-steps",
    "turn follow": "T-7 --exit-status",
    "top": "",
    "console": "--profile acme/me --open",
    "mcp serve": "--profile acme/me",
    "schedule list": "",
    "schedule set": """nightly --cron '30 2 * * *' --target-agent desk --payload-json '{"task": "report"}'""",
    "schedule show": "nightly",
    "schedule pause": "nightly",
    "schedule unpause": "nightly",
    "schedule trigger": "nightly",
    "schedule delete": "nightly",
    "worker once": "--profile acme/desk --command sh answer.sh",
    "worker loop": "--profile acme/desk --command sh answer.sh",
    "worker run": "desk:desk --reload",
    "worker why": "T-7",
    "worker check": "--command sh answer.sh",
    "worker replay": "T-7 --app desk:desk",
    "worker claim next": f"{_DESK} --claim-out-file claim.json",
    "worker claim run": f"{_DESK} -- sh work.sh",
    "worker claim append": f"{_CLAIM} --payload-file note.json",
    "worker claim renew": _CLAIM,
    "worker claim suspend": f"{_CLAIM} --reason need_input",
    "worker claim finish": f"{_CLAIM} --outcome succeeded --payload-file answer.json",
    "worker claim reconcile": _DESK,
    "worker claim dispatch-child": f"{_CLAIM} --requested-by desk --target-agent reviewer "
    "--payload-file input.json --dispatch-key review-1",
    "agent join": "https://kernel.example.org cgjoin_XXXXXXXX",
    "agent list": "",
    "agent get": "desk",
    "agent drain": "desk",
    "agent resume": "desk",
    "agent feed": "desk --limit 20",
    "agent register": "--project-id acme --agent-id desk --role worker.v1 --capability turn.conversation.v1",
    "agent update": "--project-id acme --agent-id desk --capacity 4",
    "agent publish-offers": "--app desk:desk",
    "agent credential list": "--project-id acme --agent-id desk",
    "agent credential issue": "--project-id acme --agent-id desk",
    "agent credential revoke": "--project-id acme --agent-id desk --credential-id cred-1",
    "dev": "--open",
    "demo": "",
    "doctor": "",
    "profile ensure-agent": "--profile acme/me --project-id acme --requested-agent-id me "
    "--runtime-kind person.v1 --display-name Me",
    "project feed": "--after-ledger-seq 100",
    "project agent list": "",
    "project offer list": "",
    "project offer get": "--agent-id desk --turn-kind turn.conversation.v1",
    "project turn list": "--state queued",
    "project turn lineage": "T-7",
    "admission run": "--project-id acme --base-url https://kernel.example.org",
    "admission invite create": "--project-id acme --agent-id desk --expires-in 24h",
    "admission invite list": "--project-id acme",
    "admission invite revoke": "--project-id acme --invite-id invite-1",
    "provision spawn": "--project-id acme --requested-by me --provisioner-agent provisioner --role worker.v1 "
    "--request-id spawn-1",
    "provision serve": "--profile acme/provisioner --command sh answer.sh",
    "report work-memory": "--project-id acme --agent-id desk --manifest-file report.json",
    "setup project seed": "--project-id acme",
    "setup project status": "--project-id acme",
    "setup project client-config": "--project-id acme --base-url https://kernel.example.org "
    "--admin-base-url https://kernel.example.org",
    "admin purge": "--older-than 90d --dry-run",
    "admin export": "acme acme.project --close",
    "admin import": "acme.project --pg-dsn postgresql://other.example.org/cgworker",
    "admin reopen": "acme",
    "admin forget": "acme",
    "smoke pair": "--from acme/me --to desk",
    "local run": "--project-id acme",
    "service run": "",
}


def examples_of(command_path: str) -> Sequence[str]:
    """Return the examples of a command, or of all commands below a group.

    Args:
        command_path: the words as typed, such as `cg turn`.
    """
    words = command_path.partition(" ")[2]
    if not words:
        return _BEGIN
    return [
        f"cg {path} {arguments}".rstrip()
        for path, arguments in _ARGUMENTS.items()
        if path == words or path.startswith(f"{words} ")
    ]
