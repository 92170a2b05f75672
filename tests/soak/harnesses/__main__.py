"""`python -m tests.soak.harnesses CALLS RESULT`: the tool of an agent that runs commands; CALLS is a file."""

import json
import sys
from pathlib import Path

from tests.soak.harnesses import Calls

Calls(**json.loads(Path(sys.argv[1]).read_text())).make_blocking("square")
print(sys.argv[2])  # noqa: T201  # what the agent reads
