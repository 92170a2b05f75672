"""Resuming what this agent's workers suspended or left behind."""
