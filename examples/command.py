"""A worker with a command: the same as `cg worker loop --command ...`, inside your own program.

python examples/command.py
"""

import sys
from pathlib import Path

from cgworker import CommandHandler, Worker, run

RUNTIME = Path(__file__).parent / "conversation_worker" / "worker_runtime.py"

desk = Worker.from_profile("cg-demo/worker-1")
desk.add("turn.conversation.v1", CommandHandler([sys.executable, str(RUNTIME)]))

if __name__ == "__main__":
    run(desk)
