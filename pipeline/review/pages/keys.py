"""THE table of keys. Keys that move never decide; everybody may choose others, which the browser remembers."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from pipeline.review import codes
from pipeline.review.facts import Code

VIEWER, SERVER, LIST, FIELD = "viewer", "server", "list", "field"  # who acts on it; a field of that id is gone to


class Key(NamedTuple):
    """`does` names the action, `by` who acts on it."""

    does: str
    key: str
    text: str
    by: str


MOVES = (
    Key("next", "j", "next panel", SERVER),
    Key("previous", "k", "previous panel", SERVER),
    Key("queue", "q", "back to the queue", SERVER),
)
LOOKS = (
    Key("defect+", "n", "next defect, centred", VIEWER),
    Key("defect-", "b", "previous defect, centred", VIEWER),
    Key("left", "ArrowLeft", "look further left", VIEWER),
    Key("right", "ArrowRight", "look further right", VIEWER),
    Key("up", "ArrowUp", "look further up", VIEWER),
    Key("down", "ArrowDown", "look further down", VIEWER),
    Key("in", "+", "zoom in", VIEWER),
    Key("out", "-", "zoom out", VIEWER),
    Key("fit", "f", "the whole panel", VIEWER),
    Key("marks", "m", "contours, heat map, no marks", VIEWER),
    Key("hide", "h", "hide every mark, as long as it is held", VIEWER),
    Key("views", "v", "one, two, three, four pictures side by side", VIEWER),
    Key("view", "x", "which of them the digits change", VIEWER),
    Key("darker", "[", "darker: level up", VIEWER),
    Key("brighter", "]", "brighter: level down", VIEWER),
    Key("harder", ".", "narrower window: more contrast", VIEWER),
    Key("softer", ",", "wider window: less contrast", VIEWER),
    Key("plain", "0", "window and level as they were", VIEWER),
    Key("lossless", "p", "lossless pixels instead of JPEG", VIEWER),
)
DECIDES = (
    Key("defective", "r", "confirm the reject (of a pass: it escaped)", SERVER),
    Key("good", "o", "overrule: the panel is good (of a pass: confirm it)", SERVER),
    Key("lab", "l", "to the lab: leave it open", SERVER),
    Key("undo", "u", "take back one's own last finding of this panel", SERVER),
    Key("comment", "c", "write a comment; Escape leaves it", FIELD),
)
AGAIN = Key("again", "a", "inspect again with the recipe now in use", SERVER)
LISTS = (
    Key("next", "j", "next panel of the list; Enter opens it", LIST),
    Key("previous", "k", "previous panel of the list", LIST),
    Key("find", "/", "look up a bar code", FIELD),
)
TRAIL = (
    Key("next", "j", "older records", SERVER),
    Key("previous", "k", "newer records", SERVER),
    Key("find", "/", "records of one panel", FIELD),
)
CHANNELS = tuple(Key(f"channel {at}", str(at), f"picture {at}", VIEWER) for at in range(1, 10))


def classes(tree: Iterable[Code]) -> list[Key]:
    """Shift and the class's digit choose it; R then decides."""
    keyed = (one for one in codes.flat(list(tree)) if one.key)
    return [Key(f"class {one.code}", f"Shift+{one.key}", f"class: {one.text}", SERVER) for one in keyed]


class Keys(Element, component="static/keys.js"):
    """Listens on the whole page, except where somebody writes.

    `act` gets the name of what is to be done by us, `scan` what a bar-code reader typed; `alive` hears now and then
    that somebody is there.
    """

    def __init__(
        self, keys: Iterable[Key], act: Callable[[str], Any], scan: Callable[[str], Any], alive: Callable[[], Any]
    ) -> None:
        super().__init__()
        self._props["keys"] = [key._asdict() for key in keys]
        self.on("act", lambda event: act(_text(event)))
        self.on("scan", lambda event: scan(_text(event)))
        self.on("alive", alive, args=[])


def _text(event: GenericEventArguments) -> str:
    """What the browser sent, whatever it is, as a text of bounded length."""
    return str(event.args)[:64]
