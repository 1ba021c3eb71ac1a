"""Filters as the address of a page names them."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from pipeline.review.facts import Facts

Wanted = TypeVar("Wanted", bound=Facts)


def read(kind: type[Wanted], parameters: Mapping[str, str]) -> Wanted:
    """The filter of an address; what is no filter does not narrow."""
    known = {key: value for key, value in parameters.items() if key in kind.model_fields and value}
    try:
        return kind.model_validate(known)
    except ValidationError:
        return kind()
