"""Handlers whose functions run on a cluster, with real clusters of two nodes: `make clusters`."""
