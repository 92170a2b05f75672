"""HTTP below the routes: limits, messages, rate limits."""
