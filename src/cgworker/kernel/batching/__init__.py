"""Batching: requests of one kind that wait together share a statement."""
