"""The control API of Muster: the roll-call of the workers, and what keeps it true."""
