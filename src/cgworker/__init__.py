"""A worker runtime for CommonGround: bring your own agent."""
