"""`make soak`: real processes, ended and cut off in every way, and what must be true all the same."""
