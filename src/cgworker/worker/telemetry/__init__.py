"""OpenTelemetry for workers."""
