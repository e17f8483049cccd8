"""Measurements of Muster, against the goals that it has; nothing of the product imports them."""
