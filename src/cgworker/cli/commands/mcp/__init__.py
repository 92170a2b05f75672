"""`cg mcp`: a file for each command; `group.py` assembles them."""
