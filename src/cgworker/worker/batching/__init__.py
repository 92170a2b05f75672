"""Batching: calls of many turns and agents go in one request."""
