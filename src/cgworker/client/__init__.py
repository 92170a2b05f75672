"""Typed calls to a kernel and to its admission service."""

from cgworker.client.admission import AdmissionClient
from cgworker.client.kernel import KernelClient

__all__ = ["AdmissionClient", "KernelClient"]
