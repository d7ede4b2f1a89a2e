"""The allocator's switch: used where it exists, left alone elsewhere."""

from __future__ import annotations

import ctypes
import sys

import pytest

from sorano.models.runtime import keep_freed_memory


class _Libc:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1


def test_glibc_is_told_to_keep_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = _Libc()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    assert "kept" in keep_freed_memory()
    assert {parameter for parameter, _ in libc.calls} == {-1, -2, -4}
    assert all(0 <= value < 2**31 for _, value in libc.calls)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "defaults" in keep_freed_memory()


def test_another_libc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert "defaults" in keep_freed_memory()
