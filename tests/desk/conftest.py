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


def pytest_generate_tests(metafunc):
    """Modules that name `DATABASES` are run on each of them, others on SQLite."""
    if "store" in metafunc.fixturenames:
        databases = getattr(metafunc.module, "DATABASES", ("sqlite",))
        metafunc.parametrize("store", databases, indirect=True, scope="session")


@pytest.fixture(scope="session")
def store(request):
    """The URL of a PostgreSQL whose databases are used; None for SQLite."""
    if request.param == "sqlite":
        return None
    url = request.getfixturevalue("postgres_url")
    if url is None:
        pytest.skip("neither pgserver nor Debian's postgresql is here")
    return url


@pytest.fixture
def world(tmp_path, store):
    """A desk with the policy that comes with Sorano, three founders and a clerk."""
    with desking.world(tmp_path, store) as made:
        yield made


@pytest.fixture
def lax(tmp_path, store):
    """A desk whose policy asks for as little as any may: the purported requester and one other."""
    policy = tmp_path / "lax.toml"
    policy.write_text(PERMISSIVE)
    with desking.world(tmp_path, store, policy=policy) as made:
        yield made
