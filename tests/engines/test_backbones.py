"""Trunks are torchvision's networks cut off where they are asked for, and what a cell sees is what was computed."""

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from torch import nn  # noqa: E402

if TYPE_CHECKING:
    from torch import Tensor

from engines.backbones import (  # noqa: E402
    TEACHERS,
    Backbone,
    EfficientNetB0,
    MobileNetV2,
    PatchDescription,
    ResNet,
    ThinResNet,
    ThinVgg,
    Vgg16,
    load_weights,
)
from engines.errors import UsageError  # noqa: E402

# Of torchvision 0.28: `trunk` is the SHA-256 of the sorted lines NAME:SHAPE of what a trunk with every level has,
# `rest` is what the whole network has besides, `parameters` counts both.
NAMES = json.loads((Path(__file__).parent / "torchvision_names.json").read_text())


def whole(kind: str) -> Backbone:
    """The trunk with its last level, so with every layer that it can have."""
    with torch.device("meta"):
        return TEACHERS[kind].trunk((32,))


def lines(state: dict[str, Any]) -> str:
    return "\n".join(sorted(f"{name}:{','.join(map(str, value.shape))}" for name, value in state.items()))


@pytest.mark.parametrize("kind", NAMES)
def test_names_shapes_and_sizes_are_those_of_torchvision(kind: str) -> None:
    trunk = whole(kind)
    assert hashlib.sha256(lines(trunk.state_dict()).encode()).hexdigest() == NAMES[kind]["trunk"]
    counted = [name for name in NAMES[kind]["rest"] if not name.endswith(("running_mean", "running_var", "tracked"))]
    rest = sum(int(np.prod(NAMES[kind]["rest"][name])) for name in counted)
    assert sum(one.numel() for one in trunk.parameters()) + rest == NAMES[kind]["parameters"]


@pytest.mark.parametrize(
    ("trunk", "millions"),
    [
        (lambda: PatchDescription(), 2.69),
        (lambda: PatchDescription(medium=True), 8.03),
        (lambda: PatchDescription(depth=768), 4.27),
        (lambda: PatchDescription(medium=True, depth=768), 11.6),
        (lambda: ThinVgg(16, (32,)), 0.34),
    ],
)
def test_networks_that_torchvision_lacks_have_the_published_size(
    trunk: Callable[[], Backbone], millions: float
) -> None:
    count = sum(one.numel() for one in trunk().parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.05 if millions > 10 else 0.005)


@pytest.mark.parametrize("kind", TEACHERS)
def test_maps_have_the_stated_strides_widths_and_cells(kind: str) -> None:
    trunk = TEACHERS[kind].trunk()
    assert not trunk.training and not any(one.requires_grad for one in trunk.parameters())
    with torch.no_grad():
        maps = trunk(torch.rand(2, 3, 96, 160))
    assert trunk.strides == TEACHERS[kind].strides
    assert [tuple(one.shape[2:]) for one in maps] == trunk.cells(96, 160)
    assert tuple(one.shape[1] for one in maps) == trunk.widths
    if not kind.startswith("pdn"):  # padded: cells tile the picture
        assert trunk.cells(96, 160) == [(96 // stride, 160 // stride) for stride in trunk.strides]


def test_the_patch_networks_answer_256_pixels_with_56_cells_that_see_33() -> None:
    for kind in ("pdn_small", "pdn_medium"):
        trunk = TEACHERS[kind].trunk()
        assert trunk.cells(256, 256) == [(56, 56)] and trunk.widths == (384,) and trunk.fields == (33,)


def test_nothing_is_made_behind_the_last_level() -> None:
    assert TEACHERS["resnet18"].trunk((4, 8)).names[-1] == "layer2"
    assert TEACHERS["vgg16"].trunk((4,)).names[-1] == "features.9"
    assert TEACHERS["mobilenet_v2"].trunk((2,)).names[-1] == "features.1"
    assert TEACHERS["efficientnet_b0"].trunk((8,)).names[-1] == "features.3"


def test_a_selection_gives_the_same_maps_as_all_levels() -> None:
    every, some = MobileNetV2((2, 4, 8, 16, 32)).eval(), MobileNetV2((16, 4)).eval()
    some.load_state_dict(every.state_dict(), strict=False)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, chosen = every(picture), some(picture)
    assert some.strides == (4, 16)
    torch.testing.assert_close(chosen, [maps[1], maps[3]])


def test_a_stride_that_a_network_lacks_is_named() -> None:
    with pytest.raises(UsageError, match=r"ResNet has no map of stride 2; there is 4, 8, 16, 32"):
        TEACHERS["resnet18"].trunk((2, 32))
    with pytest.raises(UsageError, match=r"no map of stride 8; there is 4"):
        TEACHERS["pdn_small"].trunk((4, 8))


def transparent(trunk: Backbone) -> Backbone:
    """Every path made visible to the gradient: weights positive, activations open, the mean in place of the maximum.

    The gates of squeeze-excitation stand still: they see the whole picture, which is no window.
    """
    for part in trunk.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(part, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
        if isinstance(part, nn.Conv2d):
            nn.init.constant_(part.weight, 1 / part.weight[0].numel())
    for name, weight in trunk.named_parameters():
        if "fc2" in name:
            nn.init.zeros_(weight)
    return trunk.double().eval()


def seen(trunk: Backbone, level: int, size: int) -> tuple[int, int]:
    """Rows and columns of a picture that change the middle cell of one level."""
    picture = torch.full((1, 3, size, size), 1e-3, dtype=torch.double, requires_grad=True)
    cells = trunk(picture)[level]
    cells[0, :, cells.shape[2] // 2, cells.shape[3] // 2].sum().backward()
    assert picture.grad is not None
    felt = picture.grad[0].abs().sum(0) > 0
    return int(felt.any(1).sum()), int(felt.any(0).sum())


@pytest.mark.parametrize(
    ("trunk", "fields"),
    [
        (lambda: ThinResNet(2, 1, (4, 8, 16, 32)), (27, 51, 99, 195)),
        (lambda: ThinResNet(2, 2), (43, 99, 211)),  # as ResNet-18
        (lambda: ResNet((3, 4, 6, 3), 2), (59, 179, 547)),  # as ResNet-34
        (lambda: ResNet((3, 4, 6, 3), 2, "bottleneck", 2), (35, 91, 267)),  # as WideResNet-50-2
        (lambda: Vgg16(), (16, 44, 100)),
        (lambda: ThinVgg(2), (16, 44, 100)),
        (lambda: PatchDescription(), (33,)),
        (lambda: PatchDescription(medium=True), (33,)),
        (lambda: MobileNetV2(), (19, 59, 267)),
        (lambda: EfficientNetB0(), (19, 67, 339)),
    ],
)
def test_a_cell_sees_as_far_as_was_computed(trunk: Callable[[], Backbone], fields: tuple[int, ...]) -> None:
    made = transparent(trunk())
    assert made.fields == fields
    for level, field in enumerate(fields):
        assert seen(made, level, field + 32) == (field, field)


def saved(folder: Path, name: str, state: dict[str, Any]) -> Path:
    torch.save(state, folder / name)
    return folder


def test_a_file_of_the_whole_network_loads_and_what_lies_behind_is_ignored(tmp_path: Path) -> None:
    every = TEACHERS["resnet18"].trunk((4, 8, 16, 32))
    rest = {name: torch.zeros(shape) for name, shape in NAMES["resnet18"]["rest"].items()}
    saved(tmp_path, "resnet18-f37072fd.pth", {**every.state_dict(), **rest})
    trunk = TEACHERS["resnet18"].trunk()
    name, digest = load_weights(trunk, "resnet18", tmp_path)
    assert name == "resnet18-f37072fd"
    assert digest == hashlib.sha256((tmp_path / "resnet18-f37072fd.pth").read_bytes()).hexdigest()
    torch.testing.assert_close(trunk.state_dict(), {key: every.state_dict()[key] for key in trunk.state_dict()})


def test_files_without_batch_counters_and_in_half_precision_load(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in whole("resnet18").to_empty(device="cpu").state_dict().items()}
    saved(tmp_path, "resnet18.pth", {key: value for key, value in state.items() if not key.endswith("tracked")})
    trunk = TEACHERS["resnet18"].trunk()
    load_weights(trunk, "resnet18", tmp_path)
    assert trunk.state_dict()["conv1.weight"].dtype == torch.float32


def test_a_deeper_network_of_the_family_is_refused(tmp_path: Path) -> None:
    deeper = TEACHERS["resnet34"].trunk().state_dict()
    saved(tmp_path, "resnet18.pth", deeper)  # every name and shape of ResNet-18 is in it
    with pytest.raises(UsageError, match=r"not of this teacher, which has no layer1\.2\.conv1\.weight"):
        load_weights(TEACHERS["resnet18"].trunk(), "resnet18", tmp_path)


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    saved(tmp_path, "resnet18.pth", ThinResNet(8, 2).state_dict())
    with pytest.raises(UsageError, match=r"cannot be loaded .*size mismatch for conv1\.weight") as caught:
        load_weights(TEACHERS["resnet18"].trunk(), "resnet18", tmp_path)
    assert "\n" not in str(caught.value)


def test_of_several_files_the_published_one_is_taken_and_otherwise_none(tmp_path: Path) -> None:
    trunk = TEACHERS["mobilenet_v2"].trunk((4,))
    saved(tmp_path, "mobilenet_v2_a.pth", trunk.state_dict())
    saved(tmp_path, "mobilenet_v2_b.pth", trunk.state_dict())
    with pytest.raises(UsageError, match=r"holds mobilenet_v2_a\.pth and mobilenet_v2_b\.pth; leave the one"):
        load_weights(trunk, "mobilenet_v2", tmp_path)
    saved(tmp_path, "mobilenet_v2-b0353104.pth", trunk.state_dict())
    assert load_weights(trunk, "mobilenet_v2", tmp_path)[0] == "mobilenet_v2-b0353104"


@pytest.mark.parametrize("medium", [False, True])
def test_patch_networks_with_numbered_layers_load(medium: bool, tmp_path: Path) -> None:
    kind, name = ("pdn_medium", "teacher_medium.pth") if medium else ("pdn_small", "teacher_small.pth")
    made = PatchDescription(medium)
    convolutions = [one for one in made.children() if isinstance(one, nn.Conv2d)]
    pooled = [nn.Sequential(one, nn.ReLU(), nn.AvgPool2d(2)) for one in convolutions[:2]]
    flat = [each for one in (*pooled, *([two, nn.ReLU()] for two in convolutions[2:])) for each in one]
    saved(tmp_path, name, nn.Sequential(*flat).state_dict())
    trunk = TEACHERS[kind].trunk()
    load_weights(trunk, kind, tmp_path)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(trunk(picture), made(picture))


def test_teachers_state_one_normalisation() -> None:
    for teacher in TEACHERS.values():
        assert teacher.mean == (0.485, 0.456, 0.406) and teacher.std == (0.229, 0.224, 0.225)


class Listed(nn.Module):
    """torch.onnx wants the outputs as a tuple."""

    def __init__(self, trunk: Backbone) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, picture: "Tensor") -> "tuple[Tensor, ...]":
        return tuple(self.trunk(picture))


def largest_difference(trunk: Backbone, folder: Path) -> float:
    """Of a trunk's maps in PyTorch and in ONNX Runtime, for another batch than it was exported with.

    As a share of each map's largest value: maps of random weights are small.
    """
    import onnxruntime

    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    pictures = torch.randn(3, 3, 96, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(
            Listed(trunk),
            (pictures[:2],),
            folder / "trunk.onnx",
            dynamo=True,
            opset_version=20,
            input_names=["picture"],
            dynamic_shapes=(batch,),
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(folder / "trunk.onnx", providers=["CPUExecutionProvider"])
    answers = session.run(None, {"picture": pictures.numpy()})
    with torch.no_grad():
        maps = trunk(pictures)
    return max(float(np.abs(one - two.numpy()).max() / two.abs().max()) for one, two in zip(answers, maps, strict=True))


@pytest.mark.parametrize(
    "trunk",
    [
        lambda: ThinResNet(8, 1),
        lambda: ResNet((1, 1, 1, 1), 8, "bottleneck", 2),
        lambda: ThinVgg(8, (4, 8)),
        lambda: PatchDescription(),
        pytest.param(lambda: MobileNetV2((4, 8)), marks=pytest.mark.slow),
        pytest.param(lambda: EfficientNetB0((4, 8)), marks=pytest.mark.slow),
    ],
)
def test_the_exported_trunk_answers_alike(trunk: Callable[[], Backbone], tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert largest_difference(trunk().eval(), tmp_path) < 1e-4
