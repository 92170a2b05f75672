"""The command of the soak: works for a while, leaves a grandchild behind, and answers.

It imports nothing but the standard library, and little of it: it is started some hundred times.
"""

import json
import os
import subprocess
import time
import uuid

with open(os.environ["CG_INPUT_FILE"]) as file:  # noqa: PTH123
    asked = json.load(file)
run = uuid.uuid4().hex
journal = os.open(os.environ["SOAK_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def tell(word: str) -> None:
    """One line of the journal, as `journal.Journal` writes it."""
    facts = {"at": time.monotonic(), "word": word, "run": run}
    facts |= {"turn": os.environ["CG_TURN_ID"], "worker": os.environ["SOAK_WORKER"]}
    os.write(journal, (json.dumps(facts) + "\n").encode())


tell("start")
subprocess.Popen(["sleep", "300"])
end = time.monotonic() + asked["seconds"]
while time.monotonic() < end:
    time.sleep(0.1)
    tell("beat")
with open(os.environ["CG_FINAL_FILE"], "w") as file:  # noqa: PTH123
    json.dump({"n": asked["n"], "square": asked["n"] ** 2, "run": run}, file)
tell("done")
