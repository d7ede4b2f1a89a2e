"""The tree of errors: exit codes, hints, one root."""

import pytest

from sorano import errors


def test_every_error_is_a_sorano_error_with_the_documented_exit_code():
    codes = {
        errors.RequestError: 2,
        errors.CheckpointError: 3,
        errors.CapacityError: 4,
        errors.PolicyError: 5,
        errors.VideoError: 1,
        errors.NumericsError: 1,
        errors.TrustError: 1,
        errors.Cancelled: errors.EXIT_INTERRUPTED,
    }
    assert set(errors.SoranoError.__subclasses__()) == set(codes)
    verdicts = {errors.TamperedError: 6, errors.SuspiciousError: 7, errors.UnverifiedError: 8, errors.MatchedError: 9}
    assert set(errors.TrustError.__subclasses__()) == set(verdicts)
    for kind, code in {**codes, **verdicts}.items():
        assert kind("x").exit_code == code


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    for kind in errors.SoranoError.__subclasses__():
        assert f"{kind.__name__:<18} {kind.exit_code}" in (errors.__doc__ or "")


def test_an_error_shows_its_message_then_its_next_step():
    with pytest.raises(errors.SoranoError) as caught:
        raise errors.CapacityError("needs 41 GB, has 24 GB", "try seconds=3")
    assert caught.value.message == "needs 41 GB, has 24 GB"
    assert str(caught.value).splitlines() == ["needs 41 GB, has 24 GB", "try seconds=3"]
    assert str(errors.RequestError("no prompt")) == "no prompt"
