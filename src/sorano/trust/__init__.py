"""Marks, labels, credentials, and what can be proved with them."""
