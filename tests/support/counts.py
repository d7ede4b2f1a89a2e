"""How much the tests try: small seeded counts, or with SORANO_FULL=1, as scripts/check sets it, the full ones."""

import os

FULL = os.environ.get("SORANO_FULL") == "1"
