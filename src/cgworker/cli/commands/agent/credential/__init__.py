"""`cg agent credential`: a file for each command; `group.py` assembles them."""
