"""Ready adapters for foreign harnesses; each needs an extra of its own: `pip install 'cgworker[openai]'`."""
