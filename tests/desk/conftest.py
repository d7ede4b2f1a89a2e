"""Desks for the tests of this folder."""

import pytest
from support import desking

PERMISSIVE = """
base = "HKD"
[rates]
HKD = "1"
[approval]
minutes = 15
independent = 1
independent_high = 1
[payee]
cooling_hours = 0
[call]
high = []
refuse = []
[fallback]
codes_below = "5000"
"""


@pytest.fixture
def world(tmp_path):
    """A desk with the policy that comes with Sorano, three founders and a clerk."""
    with desking.world(tmp_path) as made:
        yield made


@pytest.fixture
def lax(tmp_path):
    """A desk whose policy asks for as little as any may: the purported requester and one other."""
    policy = tmp_path / "lax.toml"
    policy.write_text(PERMISSIVE)
    with desking.world(tmp_path, policy=policy) as made:
        yield made
