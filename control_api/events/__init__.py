"""Events: what happened, to whom it is told, and who did what."""
