"""The published weights of a method's teacher, downloaded before teaching when that is asked for. Needs [teach]."""

from typing import Any

from calibration.stack import Tell
from engines import backbones, methods


def fetch(method: str, settings: dict[str, Any], mirror: str | None, tell: Tell) -> None:
    """Put what `method` with these settings needs into the user's cache, where teaching without a folder looks.

    `mirror`: the address of a folder with the published files; None takes the publisher's.

    Raises:
        UsageError: a setting is wrong, the teacher has no published weights, or the download failed.
    """
    chosen = methods.settings_of(methods.load(method), settings)
    for teacher in methods.teachers(methods.load(method), chosen):
        backbones.download(teacher, mirror or backbones.SOURCE, tell)
