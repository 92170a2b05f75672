"""Requests that wait for news, and what wakes them."""
