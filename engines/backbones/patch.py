"""EfficientAD's patch description networks (Batzner et al., WACV 2024): few wide layers, unpadded, 33 pixels seen.

Kernels, widths and order are those of public re-implementations, since the paper's authors published no code. One of
them calls the layers conv1 to conv6, another numbers them; files of both kinds load.
"""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from engines.backbones.backbone import Backbone, Part

DEPTH = 384
SMALL = ((4, 128, True), (4, 256, True), (3, 256, False), (4, DEPTH, False))  # kernel, width, pooled behind
MEDIUM = (
    (4, 256, True),
    (4, 512, True),
    (1, 512, False),
    (3, 512, False),
    (4, DEPTH, False),
    (1, DEPTH, False),
)


class PatchDescription(Backbone):
    """Level of stride 4 alone: 256 x 256 pixels -> 56 x 56 cells of `depth` channels; the last layer is linear.

    Unpadded, so that cell 0 looks at the first 33 pixels. EfficientAD's student has 768 channels.
    """

    def __init__(self, medium: bool = False, depth: int = DEPTH, strides: Sequence[int] = (4,)) -> None:
        super().__init__(_parts(MEDIUM if medium else SMALL, depth), strides)

    def published(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's weights under this network's names: those of numbered layers are renamed in their order."""
        layers = sorted({int(name.partition(".")[0]) for name in weights if name[:1].isdigit()})
        names = {str(layer): f"conv{place}" for place, layer in enumerate(layers, 1)}
        parts = {name: name.partition(".") for name in weights}
        return {names.get(layer, layer) + dot + rest: weights[name] for name, (layer, dot, rest) in parts.items()}


def _parts(layers: Sequence[tuple[int, int, bool]], depth: int) -> Iterator[Part]:
    inside = 3
    for number, (kernel, width, pooled) in enumerate(layers, 1):
        last = number == len(layers)
        outside = depth if width == DEPTH else width
        yield Part(f"conv{number}", nn.Conv2d(inside, outside, kernel), outside if last else 0)
        if not last:
            yield Part(f"relu{number}", nn.ReLU())
        if pooled:
            yield Part(f"pool{number}", nn.AvgPool2d(2, 2))
        inside = outside
