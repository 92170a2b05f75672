#!/usr/bin/env bash
# A model answer of openai-agents that was stored with pydantic's defaults cannot have its second approval given.
#
# Packages: openai-agents 0.24.0, openai 3.57.0
# Guess: `TypeAdapter(ModelResponse)` stores an answer as JSON and brings it back as it was, so a run goes on from it.
# Seen: the field `async_` of a function call is written under that name, and read back as an extra field beside the unset
#   `async`. A dump by alias without the unset fields comes back as it was.
# Why it matters: the difference shows only when two calls of one answer wait for approval: the run state made from the
#   stored answer then refuses to approve either. Store with `by_alias=True, exclude_unset=True`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'openai-agents==0.24.0' 'openai==3.57.0'
"$folder/venv/bin/python" - <<'PYTHON'
from agents import ModelResponse, Usage
from openai.types.responses import ResponseFunctionToolCall
from pydantic import TypeAdapter

call = ResponseFunctionToolCall(type="function_call", call_id="call-1", name="pay", arguments="{}")
answer = ModelResponse(output=[call], usage=Usage(), response_id=None)
adapter = TypeAdapter(ModelResponse)


def restored(**options):
    return adapter.validate_python(adapter.dump_python(answer, mode="json", **options)).output[0]


plain, exact = restored(), restored(by_alias=True, exclude_unset=True)
print("extra fields after a plain dump:", plain.model_extra, "| by alias:", exact.model_extra)
assert "async_" in plain.model_extra and plain != call
assert not exact.model_extra and exact == call
PYTHON
