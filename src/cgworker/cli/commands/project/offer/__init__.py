"""`cg project offer`: a file for each command; `group.py` assembles them."""
