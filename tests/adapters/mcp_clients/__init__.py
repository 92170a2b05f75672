"""The MCP server, with the real clients of mcp and fastmcp."""
