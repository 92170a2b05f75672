"""Long polling: requests that wait for a change, and the notifier that wakes them."""
