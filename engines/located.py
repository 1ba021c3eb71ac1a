"""From a map of distances to what a method answers: the map less its mean over good panels, and a score of two parts.

The score is the map's maximum (small defects) and the mean of its highest hundredth (large, faint ones), each divided
by its spread over good panels, added, and scaled so that good panels score around 1.
"""

import torch
from torch import Tensor, nn

from engines.blend import Batches
from engines.compare import gaussian, top_mean
from engines.zones import TopMean

TOP_SHARE = 0.01
POSITION_SIGMA = 3.0  # cells


class Located(nn.Module):
    """A network that knows the distance at each location; `distance` and `corrected` are the method's to say."""

    position: Tensor
    score_weight: Tensor
    corrected: bool  # whether the mean map of good panels is subtracted

    def place(self, height: int, width: int, parts: int = 2) -> None:
        """State the map's cells, and of how many parts the score is made."""
        self.register_buffer("position", torch.zeros(height, width))
        self.register_buffer("score_weight", torch.ones(parts))
        self.top_count = max(1, round(TOP_SHARE * height * width))

    def distance(self, batch: Tensor) -> Tensor:
        """At each location, before the correction: [N, h, w], 0 where nothing deviates."""
        raise NotImplementedError

    def fit_output(self, batches: Batches) -> None:
        with torch.no_grad():
            self._fit_position(batches)
            self._fit_score(batches)

    def _fit_position(self, batches: Batches) -> None:
        if self.corrected:
            self.position.copy_(self._mean_map(batches))

    def _fit_score(self, batches: Batches) -> None:
        parts = torch.cat([self.answer(batch)[1] for batch in batches()])
        per_spread = 1 / parts.std(0).clamp(min=1e-6)
        self.score_weight.copy_(per_spread / (per_spread * parts.mean(0)).sum().clamp(min=1e-6))

    def score_rule(self) -> tuple[TopMean, ...]:
        """How the score follows from the map, see `engines.methods.Model`."""
        counts = (1, self.top_count)
        return tuple(TopMean(cells=each, weight=float(w)) for each, w in zip(counts, self.score_weight, strict=True))

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        map, parts = self.answer(batch)
        return map, (parts * self.score_weight).sum(1)

    def answer(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The map [N, h, w] and what the score is made of [N, parts]."""
        map = self.distance(batch) - self.position
        return map, self._parts(map)

    def _parts(self, map: Tensor) -> Tensor:
        return torch.stack([top_mean(map, 1), top_mean(map, self.top_count)], 1)

    def _mean_map(self, batches: Batches) -> Tensor:
        mean = torch.cat([self.distance(batch) for batch in batches()]).mean(0)
        rows, columns = (torch.from_numpy(gaussian(size, POSITION_SIGMA)).float() for size in mean.shape)
        smooth = rows @ mean @ columns.T
        return smooth - smooth.mean()
