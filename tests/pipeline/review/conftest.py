"""Passwords whose hash is cheap, where a test is not about the hash."""

import pytest

from pipeline.review import accounts


@pytest.fixture(autouse=True)
def _cheap_hash(request, monkeypatch):
    if "real_hash" in request.fixturenames or not _has_argon2():
        return
    from argon2 import PasswordHasher

    monkeypatch.setattr(accounts, "hasher", lambda: PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def real_hash() -> None:
    """Hash as the product does."""


def _has_argon2() -> bool:
    try:
        import argon2  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
