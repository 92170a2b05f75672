"""What Tab completes after `cg`, in real shells, set up by `cg --install-completion`."""

from __future__ import annotations

import pytest

from cgworker.cli.completion import candidates
from cgworker.wire.turns import CONVERSATION_KIND
from tests.cli.conftest import Cg, Kernel
from tests.cli.shells import SHELLS, Shell

pytestmark = pytest.mark.slow

HOSTILE = r"""`touch seen` $(touch seen) \$(touch seen) ';touch seen;' "[/]" """

CALLING = {"operation": "dispatch", "authority_modes": [{"mode": "root_request"}]}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, cg: Cg) -> Shell:
    """Each of the shells that is installed."""
    return Shell(request.param, cg.home)


def test_tab_completes_commands_flags_states_and_names(shell: Shell, cg: Cg, kernel: Kernel) -> None:
    """Values of the program, of the config file and of the kernel."""
    assert "completion installed in" in shell.installed
    profile = kernel.profile(cg, "researcher")
    first, second = kernel.dispatch("researcher"), kernel.dispatch("researcher")
    shell.completes("cg turn get --prof", "--profile")
    shell.completes("cg turn list --state ", "closed", "queued", "running", "suspended")
    shell.completes("cg turn get --profile ", profile)
    shell.completes("cg turn get ", first, second)


def test_a_description_is_a_whole_sentence(shell: Shell) -> None:
    """bash has no place for one; an apostrophe ends no word in zsh."""
    if shell.shows_descriptions:
        shell.completes("cg turn re", "redo", "their input goes anew to the same agent")
        shell.completes("cg turn get --auth-token", "The agent\u2019s credential.")


def test_ask_offers_the_agents_that_take_turns_with_what_they_do(
    shell: Shell, cg: Cg, kernel: Kernel
) -> None:
    """Not those that only ask, such as the person and the project's operator."""
    for name in ("answerer-1", "answerer-2"):  # of one alone a shell shows no description
        add_agent(kernel, name, purpose="Answers what it is asked")
    kernel.profile(cg, "asker", kinds=())
    described = ["Answers what it is asked"] if shell.shows_descriptions else []
    shown = shell.completes("cg ask ", "answerer-1", "answerer-2", *described)
    assert "asker" not in shown
    assert "admin-service" not in shown


def test_a_turn_is_offered_to_commands_that_can_do_something_with_it(
    shell: Shell, cg: Cg, kernel: Kernel
) -> None:
    """An open turn can be stopped, and a closed one done again."""
    kernel.profile(cg, "starter")
    queued = kernel.dispatch("starter")
    shell.completes("cg turn stop ", queued)
    assert queued not in [value for value, _ in candidates("turn", {}, command="redo")]


def test_what_an_agent_says_of_itself_runs_nothing(shell: Shell, cg: Cg, kernel: Kernel) -> None:
    """typer's script for zsh evaluates the answer, and that for bash expands it."""
    add_agent(kernel, "quoter-1", purpose=HOSTILE)
    add_agent(kernel, "quoter-2", purpose=HOSTILE)
    add_agent(kernel, "quoter-$(touch seen)", purpose=HOSTILE)
    kernel.profile(cg, "reader")
    shell.completes("cg ask quot", "quoter-1", "quoter-2")
    assert not (cg.home / "seen").exists()


def add_agent(kernel: Kernel, agent_id: str, *, purpose: str) -> None:
    """Register an agent that offers to take turns."""
    kind = {"turn_kind": CONVERSATION_KIND, "purpose": purpose}
    offer = {**kind, "calling": CALLING, "input_contract": {}, "variants": {}}

    async def add() -> None:
        async with await kernel.local.agent(agent_id) as client:
            assert client.agent is not None
            await client.agents.replace_metadata(client.agent, {"turn_offers": [offer]})

    kernel.portal.call(add)
