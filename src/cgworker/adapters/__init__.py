"""Adapters that run foreign agents as handlers. Each needs an extra: `pip install 'cgworker[openai]'`."""
