"""Native controls with their labels: keyboard, screen reader and gloves are the browser's own business."""

from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from pipeline.review.pages.markup import tag, text

VALUE = "(event) => emit(event.target.value)"
Heard = Callable[[str], Any]


class Choice(Element, component="static/choice.js"):
    """A list to choose one from; `options` value -> text."""

    def __init__(self, label: str, options: Mapping[str, str], value: str, heard: Heard, name: str = "") -> None:
        super().__init__()
        self._props["label"], self._props["name"] = label, name or None
        self.show(options, value)
        self.on("choose", lambda event: heard(_text(event)))

    def show(self, options: Mapping[str, str], value: str) -> None:
        self._props["options"], self._props["value"] = [list(pair) for pair in options.items()], value
        self.update()


def field(label: str, kind: str, value: str, heard: Heard, name: str) -> Element:
    """A line to write in; it is heard on Enter and on leaving."""
    with ui.element("label").classes("field"):
        ui.html(text(label), sanitize=False, tag="span")
        element = ui.element("input").props(f'type="{kind}" maxlength="200" autocomplete="off"')
    element.props["value"], element.props["id"] = value, name
    return element.on("change", lambda event: heard(_text(event)), js_handler=VALUE)


def button(words: str, pressed: Callable[[], Any], key: str = "", kind: str = "", name: str = "") -> ui.html:
    """A button with the key that does the same."""
    element = ui.html(labelled(words, key), sanitize=False, tag="button").props("type=button").classes(kind)
    if name:
        element.props["id"] = name
    element.on("click", lambda: pressed(), args=[])
    return element


def labelled(words: str, key: str = "") -> str:
    return text(words) + (" " + tag("kbd", key.upper()) if key else "")


def _text(event: GenericEventArguments) -> str:
    """What the browser sent, whatever it is, as a text of bounded length."""
    return str(event.args)[:1000]
