"""Batching: calls of many turns and agents in one request."""
