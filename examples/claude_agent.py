"""Claude Code as a worker. It pays only what a person has approved, even days later on another machine.

ANTHROPIC_API_KEY=... python examples/claude_agent.py
"""

from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, create_sdk_mcp_server, tool

from cgworker import AdapterHandler, Worker, run
from cgworker.adapters.claude import ClaudeAgent


@tool("pay", "Pay a sum to somebody.", {"to": str, "sum": int})
async def pay(given: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"paid {given['sum']} to {given['to']}"}]}


options = ClaudeAgentOptions(
    mcp_servers={"bank": create_sdk_mcp_server("bank", tools=[pay])},
    allowed_tools=["mcp__bank__pay"],
    tools=[],  # none of its own tools, which read and write files
    setting_sources=[],  # no settings of this machine's user
)
desk = Worker.from_profile("cg-demo/worker-1")
desk.add("turn.conversation.v1", AdapterHandler(ClaudeAgent(options, approve=["mcp__bank__pay"])))

if __name__ == "__main__":
    run(desk)
