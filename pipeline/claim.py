"""One program at a time drives a line's devices: the lock on its state folder."""

import fcntl
from typing import TextIO

from pipeline.config import LineConfig
from pipeline.errors import ConfigError


def claim(config: LineConfig) -> TextIO:
    """The line's lock, held until it is closed; the kernel gives it back after a crash.

    Raises:
        ConfigError: somebody has it, or the state folder cannot be written.
    """
    try:
        config.state.mkdir(parents=True, exist_ok=True)
        lock = config.lock.open("a+")
    except OSError as error:
        raise ConfigError(f"state_dir {config.state}: {error.strerror}; choose another") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(f"a line is running already in {config.state}: stop it first") from None
    return lock
