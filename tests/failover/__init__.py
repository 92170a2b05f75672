"""`make failover`: a primary that dies, stalls or is cut off under load, and what must be true after it."""
