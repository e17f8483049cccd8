"""Dashboard: the fleet in a browser, rendered on the server."""
