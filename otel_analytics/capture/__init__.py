"""Capture: every HTTP request of an application becomes an event."""
