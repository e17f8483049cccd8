"""The command `muster`: a noun a file."""
