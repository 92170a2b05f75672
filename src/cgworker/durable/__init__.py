"""Durable state of a turn: its steps, children, questions and streams survive a restart of its handler."""
