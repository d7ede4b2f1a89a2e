"""What the servers have in common: database, keys, guard, errors, logs, and the parts of their pages."""

from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHARED_PAGE = Path(__file__).parent / "page"  # served as /web
