"""`python -m tests.soak.harnesses CALLS RESULT`: the tool of an agent that runs commands."""

import json
import sys

from tests.soak.harnesses import Calls

Calls(**json.loads(sys.argv[1])).make_blocking("square")
print(sys.argv[2])  # noqa: T201  # what the agent reads
