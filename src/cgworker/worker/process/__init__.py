"""The worker as an operating system process."""
