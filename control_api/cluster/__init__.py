"""Cluster: what K3s says, and the tokens that let a worker join it."""
