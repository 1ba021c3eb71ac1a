"""What can go wrong on the line, and who acts.

TaktError                  (engines.errors; so are the four below it)
    RecipeError            engineer: the recipe folder is damaged, unknown or does not fit the panels
    EngineError            engineer: the runtime is missing or gave an unusable answer
    PanelError             engineer: a picture or a panel set is unreadable or of the wrong shape
    UsageError             whoever called: the request itself cannot be carried out
    ConfigError            engineer: edit the line file
    MessageError           engineer: two stages of different versions, or a stranger on a socket
    LedgerError            engineer: the ledger is broken or cannot be written
    CameraError            maintenance: cable, light or trigger
    PlcError               maintenance: network or address map
    StoreError             maintenance: the store's disk is full, or another program holds it
    NotFoundError          whoever asked: there is no such panel, picture or decision
    RefusedError           whoever asked: somebody with another role, or an administrator
    StageError             maintenance: a process of the line does not start or does not stay up
"""

from engines.errors import EngineError, PanelError, RecipeError, TaktError, UsageError

__all__ = [
    "CameraError",
    "ConfigError",
    "EngineError",
    "LedgerError",
    "MessageError",
    "NotFoundError",
    "PanelError",
    "PlcError",
    "RecipeError",
    "RefusedError",
    "StageError",
    "StoreError",
    "TaktError",
    "UsageError",
]


class ConfigError(TaktError):
    """The line file, or something it names, cannot be used."""


class MessageError(TaktError):
    """A message that does not follow the schema; it is dropped and counted."""


class LedgerError(TaktError):
    """The ledger is broken or cannot be written."""

    exit_status = 3


class StoreError(TaktError):
    """The store cannot be written or read now; what it would have got is in the ledger and the spool."""

    exit_status = 3


class CameraError(TaktError):
    """A camera did not deliver what was asked of it."""

    exit_status = 3


class PlcError(TaktError):
    """The PLC cannot be reached or does not follow the contract."""

    exit_status = 3


class NotFoundError(TaktError):
    """There is nothing of that name."""


class RefusedError(TaktError):
    """This person may not do that, or not now."""


class StageError(TaktError):
    """A process of the line does not start or does not stay up."""

    exit_status = 3
