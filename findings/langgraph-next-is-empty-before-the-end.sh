#!/usr/bin/env bash
# LangGraph says that nothing comes next where a node's writes were kept and the checkpoint after it was not.
# Package: langgraph 1.2.24
# Guess: `get_state(config).next` is empty when the graph has ended. So a program that was killed resumes a
#   thread as long as `next` names a node.
# Seen: A checkpointer keeps the writes of a node first and the checkpoint after it later. If the process dies
#   between the two, `next` is empty although a whole node is still to run; `tasks` has the node whose writes
#   were kept. Invoking the graph with None goes on to its end.
# Why it matters: Who looks at `next` to find out what to resume takes such a thread for finished, with a
#   state that the later nodes have never seen.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check 'langgraph==1.2.24'
"$dir/venv/bin/python" - <<'PY'
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph


class Text(TypedDict):
    text: str


class Dies(Exception):
    """The process ends here."""


class Saver(InMemorySaver):
    """A checkpointer whose process ends before the checkpoint after the first node."""

    steps_kept = 0

    def put(self, config, checkpoint, metadata, new_versions):
        if metadata["step"] == 1 and not self.steps_kept:
            self.steps_kept = 1
            raise Dies
        return super().put(config, checkpoint, metadata, new_versions)


builder = StateGraph(Text)
builder.add_node("shout", lambda state: {"text": state["text"].upper()})
builder.add_node("exclaim", lambda state: {"text": state["text"] + "!"})
builder.add_edge(START, "shout")
builder.add_edge("shout", "exclaim")
builder.add_edge("exclaim", END)
graph = builder.compile(checkpointer=Saver())
config = {"configurable": {"thread_id": "t"}}
try:
    graph.invoke({"text": "hi"}, config, durability="sync")
except Dies:
    pass
state = graph.get_state(config)
print("next", state.next, "tasks", [task.name for task in state.tasks], "values", state.values)
assert state.next == ()
assert [task.name for task in state.tasks] == ["shout"]
ended = graph.invoke(None, config, durability="sync")
print("and after another invoke", ended)
assert ended == {"text": "HI!"}
PY
echo "langgraph 1.2.24: next is empty, and one node of two has still to run."
