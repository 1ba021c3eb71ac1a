"""What can go wrong off the line, and who acts. The line's own errors stand in `pipeline.errors`.

TaktError
    RecipeError   engineer: the recipe folder is damaged, unknown or does not fit the panels
    EngineError   engineer: the runtime is missing or gave an unusable answer
      DeviceError   maintenance: no usable card, or its driver
        OutOfDeviceMemoryError   engineer: a smaller batch
        LostDeviceError          nobody: the process ends and is started anew
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


class DeviceError(EngineError):
    """A card is missing, its driver does not do, or it refused a request."""


class OutOfDeviceMemoryError(DeviceError):
    """An engine needs more memory than the card has left."""


class LostDeviceError(DeviceError):
    """A card stopped answering: whatever else is asked of it in this process fails as well."""


class PanelError(TaktError):
    """A picture or panel set cannot be used."""


class UsageError(TaktError):
    """A request that cannot be carried out as stated."""
