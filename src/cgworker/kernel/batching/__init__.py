"""Batching: waiting requests for the same operation share a statement."""
