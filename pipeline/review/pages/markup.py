"""HTML from values: every text is escaped, so that a bar code is never a tag."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Html:
    """A value as HTML; nothing for None."""
    return value if isinstance(value, Html) else Html("" if value is None else escape(str(value)))


def join(parts: Iterable[Any]) -> Html:
    return Html("".join(text(part) for part in parts))


def tag(name: str, /, *content: Any, **attributes: Any) -> Html:
    """One element; an attribute `class_` is `class`, `data_x` is `data-x`; False and None leave it out."""
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    return Html(f"<{name}{said}>{join(content)}</{name}>")


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Html:
    """A table whose first column names its rows."""
    headers = join(tag("th", name, scope="col") for name in head)
    lines = join(tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows)
    return tag("table", tag("caption", caption), tag("thead", tag("tr", headers)) if head else "", tag("tbody", lines))


def pairs(rows: Iterable[tuple[str, Any]]) -> Html:
    """Names and values."""
    return tag("dl", join(join((tag("dt", name), tag("dd", value))) for name, value in rows))
