#!/usr/bin/env bash
# Restate accepts every further answer to an awakeable, the opposite one too, and drops it without a word.
#
# Packages: @restatedev/restate-server 1.7.12 (npm), restate-sdk 1.3.0, hypercorn 0.18.0, httpx 0.28.1; Linux
# Guess: The first answer wins, and who answers an awakeable that has its answer is told so (409, or 404 once the
#   invocation is over), since an id that cannot be one is told so (400).
# Seen: The first answer wins. A second one, a rejection after the approval, and an answer after the invocation's end
#   all get the first one's 202.
# Why it matters: two people who answer the same question, or one whose page is old, both see their answer accepted.
#   An approval that must be known to have counted needs a record of its own.
set -euo pipefail
folder=$(mktemp -d)
children=()
trap 'kill "${children[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    'restate-sdk==1.3.0' 'hypercorn==0.18.0' 'httpx==0.28.1'
npm install --silent --no-fund --no-audit '@restatedev/restate-server@1.7.12'
cat >service.py <<'PYTHON'
import restate

questions = restate.Service("questions")


@questions.handler()
async def ask(ctx: restate.Context) -> str:
    name, answer = ctx.awakeable()
    await ctx.run_typed("ask", lambda: open("question", "w").write(name))
    return await answer


app = restate.app([questions])
PYTHON
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/hypercorn --bind "127.0.0.1:$port" service:app >service.log 2>&1 &
children+=($!)
DO_NOT_TRACK=1 RESTATE_DISABLE_TELEMETRY=true node_modules/.bin/restate-server --no-logo --listen-mode unix \
    --node-name one --base-dir "$folder/data" >server.log 2>&1 &
children+=($!)
venv/bin/python - "$port" <<'PYTHON'
import sys
import threading
import time
from pathlib import Path

import httpx


def client(name):
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=f"data/one/{name}.sock"), base_url="http://restate", timeout=30
    )


def until(condition):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (httpx.TransportError, OSError):
            pass
        time.sleep(0.1)
    raise AssertionError("nothing within a minute")


admin, ingress = client("admin"), client("ingress")
until(lambda: admin.post("/deployments", json={"uri": f"http://127.0.0.1:{sys.argv[1]}"}).is_success)
final = []
caller = threading.Thread(target=lambda: final.append(client("ingress").post("/questions/ask").json()))
until(lambda: ingress.get("/restate/health").is_success)
caller.start()
until(lambda: Path("question").read_text() != "")
name = Path("question").read_text()
answers = {
    "yes": ingress.post(f"/restate/awakeables/{name}/resolve", json="yes").status_code,
    "yes, but": ingress.post(f"/restate/awakeables/{name}/resolve", json="yes, but").status_code,
    "no": ingress.post(f"/restate/awakeables/{name}/reject", content="no").status_code,
}
caller.join(30)
answers["no, after the end"] = ingress.post(f"/restate/awakeables/{name}/reject", content="no").status_code
malformed = ingress.post(f"/restate/awakeables/{name}x/resolve", json="yes").status_code
print("the handler got", final, "| answered:", answers, "| an id that cannot be one:", malformed)
assert final == ["yes"]
assert set(answers.values()) == {202} and malformed == 400
PYTHON
