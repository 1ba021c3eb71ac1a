"""The teachers by name: how each is built, where its published weights lie, and how they are loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engines.backbones.backbone import STRIDES, Backbone
from engines.backbones.download import SOURCE, Published, Tell, cache, fetch, kept, sha256_of
from engines.backbones.imitation import Imitation
from engines.backbones.mobile import EfficientNetB0, MobileNetV2
from engines.backbones.patch import PatchDescription
from engines.backbones.resnet import ResNet
from engines.backbones.vgg import Vgg16
from engines.errors import UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Teacher:
    """A kind of teacher.

    `file` is a pattern in the weights folder, `published` can be downloaded, `shipped` lies beside this module. The
    input is RGB, 0..1, standardised by `mean` and `std`.
    """

    build: Callable[[Sequence[int]], Backbone]
    file: str = ""
    published: Published | None = None
    shipped: Published | None = None
    strides: tuple[int, ...] = STRIDES
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def trunk(self, strides: Sequence[int] | None = None) -> Backbone:
        """Frozen and in eval mode, with the levels of `strides`; its weights are random until they are loaded."""
        return self.build(strides or self.strides).eval().requires_grad_(False)


# Of every digest the first eight digits are those of torchvision's own file names, which its loader checks; the full
# ones are as several public projects that use these files record them alike. WideResNet-50-2 is the first version
# (half precision on disk), EfficientNet-B0 the weights that torchvision took over from timm.
TEACHERS: Mapping[str, Teacher] = {
    "resnet18": Teacher(
        lambda strides: ResNet((2, 2, 2, 2), strides=strides),
        "resnet18*.pth",
        Published("resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 44.7),
    ),
    "resnet34": Teacher(
        lambda strides: ResNet((3, 4, 6, 3), strides=strides),
        "resnet34*.pth",
        Published("resnet34-b627a593.pth", "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f", 83.3),
    ),
    "wide_resnet50_2": Teacher(
        lambda strides: ResNet((3, 4, 6, 3), kind="bottleneck", wide=2, strides=strides),
        "wide_resnet50_2*.pth",
        Published(
            "wide_resnet50_2-95faca4d.pth", "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8", 131.8
        ),
    ),
    "vgg16": Teacher(
        Vgg16,
        "vgg16*.pth",
        Published("vgg16-397923af.pth", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", 527.8),
    ),
    "efficientnet_b0": Teacher(
        EfficientNetB0,
        "efficientnet_b0*.pth",
        Published(
            "efficientnet_b0_rwightman-7f5810bc.pth",
            "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934",
            20.5,
        ),
    ),
    "mobilenet_v2": Teacher(
        MobileNetV2,
        "mobilenet_v2*.pth",
        Published(
            "mobilenet_v2-b0353104.pth", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", 13.6
        ),
    ),
    "pdn_small": Teacher(lambda strides: PatchDescription(strides=strides), "*teacher_small*.pth", strides=(4,)),
    "pdn_medium": Teacher(
        lambda strides: PatchDescription(True, strides=strides), "*teacher_medium*.pth", strides=(4,)
    ),
    "takt": Teacher(
        Imitation,
        shipped=Published("takt.safetensors", "a44818a3afee73b9b2de79e7be74ff18cfa7e464ff89eb3a9b4c1c3870d8a6bd", 2.2),
    ),
}


def download(kind: str, source: str = SOURCE, tell: Tell = lambda phase, done, total: None) -> None:
    """Put the published weights of this kind into the user's cache, where `load_weights` finds them.

    Nothing happens for the teacher that ships, or where the weights are there already.

    Raises:
        UsageError: the download failed, or this kind has no published weights.
    """
    teacher = TEACHERS[kind]
    if teacher.shipped:
        return
    if teacher.published is None:
        raise UsageError(f"teacher {kind} cannot be downloaded: give --teacher-weights DIR with {teacher.file}")
    fetch(teacher.published, cache(), source, tell)


def at_hand(kind: str, folder: Path | None) -> bool:
    """Whether `load_weights` would find a file; what is in it is not looked at."""
    teacher = TEACHERS[kind]
    if teacher.shipped:
        return True
    if folder is not None:
        return any(Path(folder).glob(teacher.file))
    return teacher.published is not None and kept(teacher.published, cache()) is not None


def load_weights(trunk: Backbone, kind: str, folder: Path | None) -> tuple[str, str]:
    """Fill a teacher's trunk; returns what it is, for the manifest, and the SHA-256 of its file.

    Without a folder, a file that was downloaded before is used; nothing is downloaded here. The teacher that ships
    needs neither.

    Raises:
        UsageError: the folder or the file is missing, or the file is not of this network.
    """
    teacher = TEACHERS[kind]
    if teacher.shipped:
        path = _whole(teacher.shipped)
        _fill(trunk, path, lambda: {name: value.float() for name, value in load_file(path).items()})
        return path.stem, teacher.shipped.sha256
    path = _downloaded(kind, teacher) if folder is None else _given(teacher.file, teacher.published, Path(folder))
    _fill(trunk, path, lambda: _under_our_names(trunk, torch.load(path, map_location="cpu", weights_only=True)))
    return path.stem, sha256_of(path)


def _whole(shipped: Published) -> Path:
    path = kept(shipped, HERE)
    if path is None:
        raise UsageError(f"{HERE / shipped.name}: is not the file that ships with takt; install takt again")
    return path


def _downloaded(kind: str, teacher: Teacher) -> Path:
    path = kept(teacher.published, cache()) if teacher.published else None
    if path is not None:
        return path
    more = f", or --download-weights ({teacher.published.mib:.0f} MiB)" if teacher.published else ""
    raise UsageError(f"teacher {kind} needs its weights: give --teacher-weights DIR with {teacher.file}{more}")


def _given(pattern: str, published: Published | None, folder: Path) -> Path:
    """The published file if it is there, else the only one that fits."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise UsageError(f"{folder}: holds no {pattern}; give the folder with the teacher's weights")
    known = [path for path in found if published and path.name == published.name]
    if len(found) > 1 and not known:
        raise UsageError(f"{folder}: holds {found[0].name} and {found[1].name}; leave the one that is to teach")
    return (known or found)[0]


def _fill(trunk: Backbone, path: Path, read: Callable[[], Mapping[str, Tensor]]) -> None:
    try:
        weights = read()
        foreign = _foreign(trunk, weights)
        missing = trunk.load_state_dict(weights, strict=False).missing_keys
    except Exception as error:  # damaged files raise many kinds
        lines = [line.strip() for line in str(error).splitlines()]
        raise UsageError(f"{path}: cannot be loaded as this teacher: {' '.join(lines[:2])}") from error
    wanted = [name for name in missing if not name.endswith("num_batches_tracked")]
    if wanted:
        raise UsageError(f"{path}: is not of this teacher, {wanted[0]} is missing")
    if foreign:
        raise UsageError(f"{path}: is not of this teacher, which has no {foreign[0]}")


def _under_our_names(trunk: Backbone, weights: Any) -> Mapping[str, Tensor]:
    return trunk.published(weights) if isinstance(trunk, PatchDescription) else weights


def _foreign(trunk: Backbone, weights: Mapping[str, Tensor]) -> list[str]:
    """Names inside the trunk's own parts that it does not have: a deeper network of the same family.

    What lies behind the last level, such as a classifier, is no part of the trunk and may well be in the file.
    """
    own, parts = trunk.state_dict().keys(), tuple(f"{name}." for name in trunk.names)
    return [name for name in weights if name.startswith(parts) and name not in own]
