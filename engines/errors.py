"""What can go wrong off the line, and who acts. The line's own errors stand in `pipeline.errors`.

TaktError
    RecipeError   engineer: the recipe folder is damaged, unknown or does not fit the panels
    EngineError   engineer: the runtime is missing or gave an unusable answer
    PanelError    engineer: a picture or a panel set is unreadable or of the wrong shape
    UsageError    whoever called: the request itself cannot be carried out
"""


class TaktError(Exception):
    """One line that says what is wrong and what to do; `exit_status` is the process's answer."""

    exit_status = 2


class RecipeError(TaktError):
    """A recipe folder cannot be used."""


class EngineError(TaktError):
    """A runtime cannot load a network or its answer cannot be used."""

    exit_status = 3


class PanelError(TaktError):
    """A picture or panel set cannot be used."""


class UsageError(TaktError):
    """A request that cannot be carried out as stated."""
