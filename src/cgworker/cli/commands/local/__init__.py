"""`cg local`: a file for each command; `group.py` assembles them."""
