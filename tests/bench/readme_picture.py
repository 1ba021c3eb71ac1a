"""Draws docs/panel.png, by hand: eight channels of one simulated panel, and what was marked in them."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration import overlay
from engines import recipe as recipes
from engines.detector import open_detector
from pipeline.simulation import defects, panel, watermark

HERE = Path(__file__).parents[2]
GAP, CAPTION, WHITE = 6, 18, 255


def main() -> None:
    """Two rows of four channels, and the overlay beside them at twice the size."""
    scratched = panel.render(7, panel.Look(), defect=defects.draw("scratch", seed=5))
    watermark.stamp_set(scratched.frames, 7)  # as every panel that the recipe was taught from
    with open_detector(recipes.load(HERE / "pipeline" / "demo" / "recipe")) as detector:
        (finding,) = detector.inspect([scratched.frames])
        limit = detector.limits.pixel
    tiles = [captioned(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), name) for frame, name in _named(scratched.frames)]
    rows = [cv2.hconcat(tiles[:4]), cv2.hconcat(tiles[4:])]
    channels = cv2.vconcat(rows)
    shown = finding.defects[0].channels[0]
    best = scratched.frames[panel.CHANNELS.index(shown)]
    marked = overlay.outlined(overlay.heat(best, finding.map, limit), finding.mask)
    side = channels.shape[0] - CAPTION - GAP
    verdict = f"REJECT: {len(finding.defects)} defect, score {finding.score:.2f}, seen in {shown}"
    large = captioned(cv2.resize(marked, (side, side), interpolation=cv2.INTER_CUBIC), verdict)
    picture = cv2.resize(cv2.hconcat([channels, large]), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(HERE / "docs" / "panel.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _named(frames: NDArray) -> list[tuple[NDArray, str]]:
    order = sorted(range(len(panel.CHANNELS)), key=lambda at: panel.CHANNELS[at].endswith("pixel"))
    return [(frames[at], panel.CHANNELS[at]) for at in order]


def captioned(picture: NDArray, text: str) -> NDArray:
    """The picture with a line of text below it and a white rim."""
    height, width = picture.shape[:2]
    sheet = np.full((height + CAPTION + GAP, width + GAP, 3), WHITE, np.uint8)
    sheet[:height, :width] = picture
    cv2.putText(sheet, text, (2, height + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet


if __name__ == "__main__":
    main()
