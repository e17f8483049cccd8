"""What Prometheus reads: what happened since the start, and how things are now."""
