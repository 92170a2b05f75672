"""Provide agents on demand: admit each, and keep a worker for it running in a process of its own."""

from cgworker.provisioning.provisioner import SPAWN_KIND, Provisioner

__all__ = ["SPAWN_KIND", "Provisioner"]
