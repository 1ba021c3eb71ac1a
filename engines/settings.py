"""Settings from outside as checked models; a mistake is one line that names the key and the nearest spelling."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from engines.errors import TaktError, UsageError

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], raw: Mapping[str, Any], where: str, error: type[TaktError] = UsageError) -> Model:
    """`raw` as a `model`, or an `error` of one line that names the key and the nearest spelling."""
    try:
        return model.model_validate(raw)
    except ValidationError as invalid:
        raise error(f"{where}: {explain(invalid, model)}") from None


def read_toml(path: Path, where: str, error: type[TaktError] = UsageError, remedy: str = "") -> dict[str, Any]:
    """What the TOML file `path` says, or an `error` of one line that begins with `where`; `remedy`: if unreadable."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failed:
        raise error(f"{where}: cannot be read: {failed.strerror or failed}{remedy}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as invalid:
        raise error(f"{where}: not a TOML file: {invalid}") from None


def explain(invalid: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in one line; a misspelt key before the one that is missing because of it."""
    errors = invalid.errors()
    first = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    known = _fields_at(model, first["loc"][:-1])
    near = get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"{key}: unknown setting; {hint}"


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        found = _model_inside(model.model_fields[part].annotation)
        model = found or model
    return [name for name in model.model_fields if name != "source"]


def _model_inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_inside(part))), None)
