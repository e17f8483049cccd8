"""What can go wrong in the lab."""

from __future__ import annotations


class LabError(Exception):
    """One sentence for the user: what is wrong and what to do about it."""
