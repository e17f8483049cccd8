"""How the stand-in names itself, wherever K3s would print its version."""

VERSION = "v0.0.0-stand-in"
LINE = f"k3s version {VERSION} (muster) — a stand-in for K3s, runs no containers"
NOTICE = (
    "This is Muster's stand-in for K3s. It plays nodes, tokens and the API of K3s; it runs no containers."
)
