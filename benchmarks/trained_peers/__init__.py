"""Peers that learn from our images, each in an environment of its own; `accuracy_peers.py` runs them."""
