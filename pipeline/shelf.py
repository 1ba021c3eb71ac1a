"""One panel's evidence in the archive: lossless pictures a channel, the anomaly map, thumbnails, and facts of them."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.disk import write_channels

MAP, ABOUT = "map", "evidence.json"
THUMBS = "thumbs"  # a folder beside the lossless pictures, kept longer
THUMB_PX = 320
Facts = dict[str, Any]
Channels = Mapping[str, tuple[str, ...]]


def put(spooled: Path, archive: Path, channels: Channels) -> Facts:
    """Turn a spooled panel's arrays into its archive folder; what an earlier try has finished stays.

    Returns what the store is to know of it: `token, reason, folder, kept_at, bytes, height, width, greys, thumbs`.

    Raises:
        OSError: the disk does not take it.
        ValueError, KeyError: what was spooled is torn.
    """
    about = json.loads((spooled / ABOUT).read_text())
    part, done = archive / f"{spooled.name}.part", archive / spooled.name
    if not done.exists():
        shutil.rmtree(part, ignore_errors=True)
        (part / THUMBS).mkdir(parents=True)
        kept = about | {"kept": _written(spooled, part, channels)}
        (part / ABOUT).write_text(json.dumps(kept))
        part.rename(done)
    said = json.loads((done / ABOUT).read_text())
    named = {"token": said["token"], "reason": said["reason"], "folder": os.fspath(done)}
    return named | said.get("kept", {})  # an older takt left no more


def _written(spooled: Path, part: Path, channels: Channels) -> Facts:
    facts: Facts = {"greys": {}, "thumbs": True, "kept_at": datetime.now(UTC).isoformat(timespec="microseconds")}
    for path in sorted(spooled.glob("*.npy")):
        pixels = np.load(path)
        if path.stem == MAP:
            np.savez_compressed(part / f"{MAP}.npz", map=pixels.view(np.float16)[0])
            continue
        names = channels.get(path.stem, ())
        write_channels(part, path.stem, names, pixels)
        facts |= {"height": pixels.shape[1], "width": pixels.shape[2]}
        for index, frame in enumerate(pixels):
            name = f"{path.stem}_{names[index] if index < len(names) else index}"
            facts["greys"][name] = round(float(frame.mean()), 3)
            _write_thumb(part / THUMBS / f"{name}.jpg", frame)
    return facts | {"bytes": sum(path.stat().st_size for path in lossless(part))}


def _write_thumb(path: Path, frame: NDArray) -> None:
    """frame [H, W], uint8 or uint16, as 8 bit and at most `THUMB_PX` wide and high."""
    scale = min(THUMB_PX / max(frame.shape), 1.0)
    size = [max(round(side * scale), 1) for side in frame.shape]
    small = cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    bits = max(int(small.max()).bit_length(), 8)  # 10 or 12 of them in 16
    eight = np.right_shift(small, bits - 8).astype(np.uint8)
    made, data = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not made:
        raise OSError(0, "no JPEG can be made of it")
    path.write_bytes(data.tobytes())


def lossless(folder: Path) -> Iterator[Path]:
    """The files that go when policy says so; thumbnails and facts stay."""
    return (path for path in folder.iterdir() if path.suffix in (".png", ".npz"))
