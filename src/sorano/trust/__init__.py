"""Trust on the path: what Sorano makes is marked, and what carries a mark can be asked about it."""
