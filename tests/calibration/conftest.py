"""Hypothesis without deadlines: shared machines stall."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
