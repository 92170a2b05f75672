"""The marks that all tests of a file have: `journey`, `serial`, `slow` and `untraced`."""

from __future__ import annotations

from pathlib import Path

# Tests that start processes or wait for long; `make test-fast` leaves them out.
SLOW = [
    "adapters/test_acp.py",
    "adapters/test_extras.py",
    "cli",
    "conformance",
    "console/test_hostile_text.py",
    "console/test_journeys.py",
    "console/test_mounted.py",
    "console/test_pages.py",
    "console/test_restart.py",
    "console/test_story.py",
    "handlers/test_child.py",
    "handlers/test_command.py",
    "handlers/test_guard.py",
    "handlers/test_hostile_commands.py",
    "journeys",
    "kernel/test_crowds.py",
    "kernel/test_database.py",
    "kernel/test_embedded.py",
    "kernel/test_fuzz.py",
    "kernel/test_kills.py",
    "test_docs.py",
    "test_environment.py",
    "test_examples.py",
    "test_floors.py",
    "test_newcomers.py",
    "test_runtimes.py",
    "test_site.py",
    "test_stores.py",
    "test_types.py",
    "test_windows.py",
    "testing/test_checking.py",
    "testing/test_local_kernel.py",
    "testing/test_plugin.py",
    "worker/test_dumpable.py",
    "worker/test_pid1.py",
    "worker/test_serve.py",
]

# Tests that a busy machine would change: when processes and leases end, how plans are made. They run after
# the others, one at a time.
SERIAL = ["cli/test_exactness.py", "journeys/test_commands.py", "kernel/test_statements.py"]


# Pages in browsers, examples, stories of kills, crowds and chance, and others that cost much. What they run
# of the library, other tests run as well. The gate leaves them untraced: coverage doubles the time of a test,
# and more than doubles that of a program. A line that only they run counts as not covered.
UNTRACED = [
    "adapters/test_ag_ui_javascript.py",
    "adapters/test_extras.py",
    "cli/test_commands.py",
    "cli/test_parse_in_child.py",
    "cli/test_startup.py",
    "cli/test_tables.py",
    "conformance/peer",
    "console/test_journeys.py",
    "console/test_pages.py",
    "console/test_restart.py",
    "console/test_story.py",
    "deploy",
    "handlers/test_hostile_commands.py",
    "journeys/test_claims_ahead.py",
    "journeys/test_counts.py",
    "journeys/test_crashes.py",
    "journeys/test_credentials.py",
    "journeys/test_failover.py",
    "journeys/test_following.py",
    "journeys/test_killed_agents.py",
    "journeys/test_killed_claude.py",
    "journeys/test_killed_companion.py",
    "journeys/test_killed_peers.py",
    "journeys/test_killed_workers.py",
    "journeys/test_kills.py",
    "journeys/test_logs.py",
    "journeys/test_lost_answers.py",
    "journeys/test_many_agents.py",
    "journeys/test_plain_kernel.py",
    "journeys/test_presence.py",
    "journeys/test_random_faults.py",
    "journeys/test_retries.py",
    "journeys/test_stuck.py",
    "journeys/test_surroundings.py",
    "kernel/test_access.py",
    "kernel/test_crowds.py",
    "kernel/test_fuzz.py",
    "kernel/test_killed_schedules.py",
    "kernel/test_kills.py",
    "kernel/test_long_poll.py",
    "kernel/test_one_project.py",
    "kernel/test_order.py",
    "kernel/test_order_crowds.py",
    "kernel/test_order_model.py",
    "kernel/test_pages.py",
    "kernel/test_payloads.py",
    "kernel/test_plans.py",
    "kernel/test_states.py",
    "kernel/test_timers.py",
    "test_docs.py",
    "test_environment.py",
    "test_examples.py",
    "test_floors.py",
    "test_newcomers.py",
    "test_production.py",
    "test_runtimes.py",
    "test_site.py",
    "test_types.py",
    "test_windows.py",
]

# Long ways through browsers, shells, harnesses and kills. `make test` leaves them to `make test-journeys`.
JOURNEYS = {
    "adapters/test_ag_ui_javascript.py": "runs the JavaScript client in node",
    "adapters/test_claude.py": "starts the real coding agent for each test",
    "cli/test_completion.py": "types in three shells",
    "cli/test_dev.py": "starts a kernel, a console and workers as processes",
    "cli/test_hostile_text.py": "draws each view with hundreds of texts",
    "cli/test_provision_serve.py": "kills a provisioner and its workers",
    "cli/test_server_discovery.py": "kills kernels",
    "console/test_hostile_text.py": "draws each page with hundreds of texts",
    "console/test_journeys.py": "uses a browser",
    "console/test_pages.py": "uses a browser",
    "console/test_restart.py": "uses a browser",
    "console/test_story.py": "uses a browser",
    "deploy/test_container.py": "runs a container",
    "deploy/test_two_databases.py": "puts proxies before two kernels",
    "journeys/test_crashes.py": "kills a worker at each of some lines",
    "journeys/test_credentials.py": "refuses workers that run",
    "journeys/test_failover.py": "kills a database with a standby",
    "journeys/test_killed_agents.py": "kills a worker at each step of each harness",
    "journeys/test_killed_claude.py": "kills a worker at each step of the real coding agent",
    "journeys/test_killed_companion.py": "kills a companion at each step",
    "journeys/test_killed_peers.py": "kills coding agents at each step",
    "kernel/test_killed_schedules.py": "kills a kernel in each tick",
    "kernel/test_order_crowds.py": "has crowds of turns",
    "kernel/test_order_model.py": "plays hundreds of orders",
    "kernel/test_parsing.py": "nests JSON as deep as it may be",
    "kernel/test_postmaster.py": "kills PostgreSQL servers",
    "test_environment.py": "runs the terminal's tests again in other shells",
    "test_newcomers.py": "types what a newcomer types, an environment included",
    "test_production.py": "follows the page on production, with nginx",
    "worker/test_dumpable.py": "starts each command that runs work",
}

LISTS = {"journey": [*JOURNEYS], "serial": SERIAL, "slow": SLOW, "untraced": UNTRACED}
"""The files of which each test has a mark. Others may have tests that are marked slow."""


def is_listed(path: Path, mark: str) -> bool:
    """Whether each test of a file has a mark."""
    return any(path.is_relative_to(Path(__file__).parent / each) for each in LISTS[mark])
