"""The outbox: results wait on disk until the kernel has them."""
