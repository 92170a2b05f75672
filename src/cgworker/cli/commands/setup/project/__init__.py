"""`cg setup project`: a file for each command; `group.py` assembles them."""
