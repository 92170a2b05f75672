"""The test kit: a real kernel in the process, and faults on demand."""

from cgworker.testing.faults import Faults
from cgworker.testing.kernel import LocalKernel, local_kernel

__all__ = ["Faults", "LocalKernel", "local_kernel"]
