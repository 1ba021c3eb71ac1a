"""One reviewer without a browser: asks a station for what its pages would, and speaks on their web socket.

usage: python tests/bench/scripted_reviewer.py ADDRESS --seconds 30 [--pace-ms 2000] [--decide]
A person's browser runs on another computer; this costs a line's machine nearly nothing beside what the station does.
Panel after panel by J, with every picture and the contours that `viewer.js` fetches; with `--decide` each is
confirmed by R, as operators do. Scripts and styles lie in a browser's cache after the first page and are not asked for.
"""

import argparse
import asyncio
import json
import re
import time
from ast import literal_eval
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from html import unescape
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx
import socketio

ELEMENTS = re.compile(r"parseElements\(String\.raw`(.*?)`\)", re.DOTALL)
QUERY = re.compile(r"query: (\{.*?\}),\s*extraHeaders", re.DOTALL)
SOCKET = "_nicegui_ws/socket.io"
ACK_S = 3.0
END_S = 3.0  # a key that brings no panel so long has come to the list's end
IN_SIGHT = 16  # cards of the queue that a browser shows, and fetches thumbnails of


def main() -> None:
    parser = argparse.ArgumentParser(description="One reviewer without a browser.")
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--pace-ms", type=float, default=2000)
    parser.add_argument("--decide", action="store_true")
    wanted = parser.parse_args()
    print(json.dumps(asyncio.run(work(wanted.address, wanted.seconds, wanted.pace_ms, wanted.decide))))  # noqa: T201


def now() -> str:
    """The wall clock as the store keeps it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


async def work(address: str, seconds: float, pace_ms: float, decide: bool) -> dict[str, Any]:
    """Review for so long; returns what was asked for and done."""
    limits = httpx.Limits(max_connections=6)  # as browsers have to one host
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60, limits=limits) as client:
        reviewer = Reviewer(address, client)
        began, until = now(), time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                await reviewer.walk(until, pace_ms / 1000, decide=decide)
        finally:
            ended = now()
            await reviewer.leave()
    span = {"began": began, "ended": ended}
    return span | {"panels": reviewer.panels, "decisions": reviewer.decisions, "asked": dict(reviewer.asked)}


class Reviewer:
    """Somebody with one page open."""

    def __init__(self, address: str, client: httpx.AsyncClient) -> None:
        self._address, self._client = address, client
        self._page: Page | None = None
        self.panels = self.decisions = 0
        self.asked: Counter[str] = Counter()

    async def walk(self, until: float, pace_s: float, *, decide: bool) -> None:
        """From the queue's first panel on, until the list or the time is over."""
        if not await self._from_queue():
            await asyncio.sleep(pace_s)
            return
        while time.monotonic() < until and self._page is not None:
            turn = time.monotonic() + pace_s
            if decide:
                self.decisions += await self._page.act("defective", self._page.votes)
            await asyncio.sleep(max(min(turn, until) - time.monotonic(), 0))
            if time.monotonic() >= until or not await self._page.act("next", self._page.wanted):
                return
            await self._look(self._page)

    async def _from_queue(self) -> bool:
        """Open the queue, then its first panel; False: it is empty."""
        queue = await self._opened("/")
        await queue.until(lambda: bool(queue.prop("rows")))
        cards = queue.prop("rows") or []
        thumbs = [card["thumb"] for card in cards[:IN_SIGHT] if card["thumb"]]
        await asyncio.gather(*(self._get("thumb", path) for path in thumbs))
        if not cards:
            return False
        panel = await self._opened(cards[0]["href"])
        if not await panel.until(lambda: bool(panel.wanted())):
            return False
        await self._look(panel)
        return True

    async def _opened(self, path: str) -> "Page":
        await self.leave()
        answer = await self._get("page", path)
        self._page = await Page(self._address, answer.text).connected()
        return self._page

    async def _look(self, page: "Page") -> None:
        """What `viewer.js` fetches of a panel: the picture shown, the marks, the other pictures, the next panel's."""
        self.panels += 1
        wanted = page.wanted()
        panel, pictures = f"/api/panels/{wanted['token']}", [one["name"] for one in wanted["pictures"]]
        if not pictures:
            return
        await self._get("picture", _picture(panel, pictures[0]))
        others = [_picture(panel, name) for name in pictures[1:]]
        if wanted["next"]:
            others.append(_picture(f"/api/panels/{wanted['next']}", pictures[0]))
        await asyncio.gather(self._get("outlines", f"{panel}/outlines"), self._one_by_one(others))

    async def _one_by_one(self, pictures: list[str]) -> None:
        for path in pictures:
            await self._get("picture", path)

    async def _get(self, kind: str, path: str) -> httpx.Response:
        answer = await self._client.get(path)
        self.asked.update({kind: 1, f"{kind} bytes": len(answer.content)})
        return answer

    async def leave(self) -> None:
        if self._page is not None:
            await self._page.closed()
            self.asked.update({"messages sent": self._page.sent, "messages received": self._page.received})
            self._page = None


class Page:
    """A page's elements and its web socket, as `nicegui.js` keeps them."""

    def __init__(self, address: str, html: str) -> None:
        elements, query = ELEMENTS.search(html), QUERY.search(html)
        assert elements and query, html[:400]
        self.elements: dict[str, Any] = json.loads(unescape(elements[1]))
        self._query: dict[str, Any] = literal_eval(query[1])
        self._address = address
        self._next = int(self._query["next_message_id"])
        self._news = asyncio.Event()
        self._socket = socketio.AsyncClient(reconnection=False)
        self._acks: asyncio.Task[None] | None = None
        self.sent = self.received = 0
        for name, heard in (("update", self._update), ("run_javascript", self._script)):
            self._socket.on(name, heard)

    async def connected(self) -> Self:
        client = self._query["client_id"]
        query = self._query | {"document_id": client, "tab_id": client, "old_tab_id": "", "implicit_handshake": "true"}
        address = f"{self._address}?{urlencode(query)}"
        await self._socket.connect(address, transports=["websocket"], socketio_path=SOCKET)
        self._acks = asyncio.create_task(self._acknowledge())
        return self

    def prop(self, name: str) -> Any:
        """Of the one element that has it; None where there is none yet."""
        return next((one["props"][name] for one in self.elements.values() if name in one.get("props", {})), None)

    def wanted(self) -> Any:
        """The panel in view, as the viewer gets it."""
        return self.prop("wanted")

    def votes(self) -> str:
        """What people have said of the panel, as the page shows it."""
        shown = (str(one.get("props", {}).get("innerHTML", "")) for one in self.elements.values())
        return next((html for html in shown if "<caption>Decisions" in html), "")

    async def until(self, there: Callable[[], bool], patience_s: float = END_S) -> bool:
        """Wait for what messages bring; False: they do not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not there():
                    self._news.clear()
                    await self._news.wait()
        return there()

    async def act(self, name: str, changes: Callable[[], Any]) -> bool:
        """Press a key and wait until something changes by it; False: it does not."""
        before = changes()
        key, keys = next((key, one) for key, one in self.elements.items() if "keys" in one.get("props", {}))
        heard = next(event["listener_id"] for event in keys["events"] if event["type"] == "act")
        await self._emit("event", id=int(key), listener_id=heard, args=[json.dumps(name)])
        return await self.until(lambda: changes() != before)

    async def _emit(self, event: str, **said: Any) -> None:
        self.sent += 1
        await self._socket.emit(event, {"client_id": self._query["client_id"]} | said)

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(ACK_S)
            await self._emit("ack", next_message_id=self._next)

    async def _update(self, message: dict[str, Any]) -> None:
        self._count(message)
        for key, element in message.items():
            if element is None:
                self.elements.pop(key, None)
                continue
            self.elements[key] = element
        self._news.set()

    async def _script(self, message: dict[str, Any]) -> None:
        """Scripts run in browsers; who waits for an answer gets an empty comment."""
        self._count(message)
        if message.get("request_id"):
            await self._emit("javascript_response", request_id=message["request_id"], result="")

    def _count(self, message: dict[str, Any]) -> None:
        self.received += 1
        self._next = message.pop("_id", self._next - 1) + 1

    async def closed(self) -> None:
        if self._acks:
            self._acks.cancel()
        await self._socket.disconnect()


def _picture(panel: str, name: str) -> str:
    return f"{panel}/pictures/{quote(name)}?kind=jpeg"


if __name__ == "__main__":
    main()
