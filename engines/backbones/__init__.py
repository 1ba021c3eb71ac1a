"""Teacher and student trunks in PyTorch: one file a family, parameter names as in torchvision.

A trunk gives the maps of the strides that it is asked for and computes nothing behind the last of them.
"""

from engines.backbones.backbone import STRIDES, Backbone, windows
from engines.backbones.download import SOURCE
from engines.backbones.imitation import Imitation
from engines.backbones.mobile import EfficientNetB0, MobileNetV2
from engines.backbones.patch import PatchDescription
from engines.backbones.resnet import ReducedResNet, ResNet, ThinResNet, thin_student
from engines.backbones.teachers import IMAGENET_MEAN, IMAGENET_STD, TEACHERS, Teacher, at_hand, download, load_weights
from engines.backbones.vgg import ThinVgg, Vgg16

Trunk = ThinResNet  # the name under which methods first knew it

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SOURCE",
    "STRIDES",
    "TEACHERS",
    "Backbone",
    "EfficientNetB0",
    "Imitation",
    "MobileNetV2",
    "PatchDescription",
    "ReducedResNet",
    "ResNet",
    "Teacher",
    "ThinResNet",
    "ThinVgg",
    "Trunk",
    "Vgg16",
    "at_hand",
    "download",
    "load_weights",
    "receptive_field_px",
    "thin_student",
    "windows",
]


def receptive_field_px(blocks: int) -> int:
    """Pixels across which a cell of a thin ResNet's stride 16 sees: 211 with two blocks, as in ResNet-18."""
    return ThinResNet(4, blocks).fields[-1]
