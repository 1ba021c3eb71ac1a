"""anomalib's inferencers for STFPM ResNet-18, as `peers.py` asks for them; started by it with the peer's python.

    PYTHON anomalib_peer.py PICTURES.npy THREADS

PICTURES are uint8 [n, H, W, 3]. Lines written first say what it is about: `{"exporting": NAME}`; the next one says what
there is: `{"engines": [...], "left_out": {...}}`.
Each line read, `{"engine": NAME, "picture": NUMBER}`, is answered by `{"ms": MILLISECONDS, "cpu_ms": OF THE CPU}` of
one `predict`. `default` and `int8` are its OpenVINO inferencer, `torch` its torch inferencer, `plain PyTorch` the same
model called without any inferencer. Run in a folder of its own: anomalib writes there. Of takt nothing is imported.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SEED, ENOUGH = 0, 32  # more would change the ranges of int8, and no time
LEARNT = {  # what its post-processing has after training, without which int8 is no graph
    "image_min": 0.0,
    "image_max": 1.0,
    "_image_threshold": 0.5,
    "pixel_min": 0.0,
    "pixel_max": 1.0,
    "_pixel_threshold": 0.5,
}
LIBRARIES = ("anomalib", "openvino", "nncf", "torch")


def main() -> None:
    """Export, say what there is, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer
    pictures, threads = np.load(sys.argv[1]), int(sys.argv[2])
    running, left_out = opened(pictures, threads, lambda name: answers.write(json.dumps({"exporting": name}) + "\n"))
    versions = {name: metadata.version(name) for name in LIBRARIES}
    answers.write(json.dumps({"engines": list(running), "left_out": left_out, "versions": versions}) + "\n")
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(took(running[asked["engine"]], pictures[asked["picture"]])) + "\n")


def took(predict: Callable[[NDArray], Any], picture: NDArray) -> dict[str, float]:
    began, worked = time.perf_counter(), time.process_time()
    predict(picture)
    return {"ms": 1000 * (time.perf_counter() - began), "cpu_ms": 1000 * (time.process_time() - worked)}


def opened(
    pictures: NDArray, threads: int, tell: Callable[[str], Any]
) -> tuple[dict[str, Callable[[NDArray], Any]], dict[str, str]]:
    """`predict` of each export that can be made, and why the others cannot."""
    model = untaught()
    deploy = import_module("anomalib.deploy")
    config = {"INFERENCE_NUM_THREADS": threads}
    running, left_out = {}, {}
    for name, options in {"default": {}, "int8": int8(pictures)}.items():
        tell(name)
        try:
            path = model.to_openvino(Path(name), input_size=tuple(pictures.shape[1:3]), **options)
            running[name] = deploy.OpenVINOInferencer(path, device="CPU", config=config).predict
        except Exception as error:  # a peer's export that fails is left out of the comparison, with its reason
            left_out[name] = said(error)
    tell("torch")
    return running | by_torch(model, deploy, left_out, threads), left_out


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def by_torch(model: Any, deploy: Any, left_out: dict[str, str], threads: int) -> dict[str, Callable[[NDArray], Any]]:
    """Its torch inferencer, and the model alone, from the picture in memory as well."""
    torch.set_num_threads(threads)
    running: dict[str, Callable[[NDArray], Any]] = {"plain PyTorch": lambda picture: called(model, picture)}
    os.environ["TRUST_REMOTE_CODE"] = "1"  # it reads what was written by the line below
    try:
        inferencer = deploy.TorchInferencer(model.to_torch(Path("torch")), device="cpu")
        running["torch"] = without_gradients(inferencer.predict)
    except Exception as error:  # as above
        left_out["torch"] = said(error)
    return running


def without_gradients(predict: Callable[[NDArray], Any]) -> Callable[[NDArray], Any]:
    def predicted(picture: NDArray) -> Any:
        with torch.inference_mode():
            return predict(picture)

    return predicted


def called(model: Any, picture: NDArray) -> Any:
    """One picture [H, W, 3] through the model, its normalising and post-processing inside."""
    with torch.inference_mode():
        return model(torch.from_numpy(picture).permute(2, 0, 1)[None].float().div_(255))


def untaught() -> Any:
    """The model with weights drawn by chance, which change no time; the hub of weights is not asked."""
    library = torch.library.Library("torchvision", "DEF")  # what torchvision's compiled part would register
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    without_weights(import_module("timm"))
    torch.manual_seed(SEED)
    model = import_module("anomalib.models").Stfpm(backbone="resnet18").eval()
    for name, value in LEARNT.items():
        getattr(model.post_processor, name).fill_(value)
    return model


def without_weights(timm: Any) -> None:
    create = timm.create_model
    timm.create_model = lambda *args, **options: create(*args, **{**options, "pretrained": False})


def int8(pictures: NDArray) -> dict[str, Any]:
    """Options of its full integer export, calibrated on `pictures`, over and over until there are enough."""
    compression = import_module("anomalib.deploy").CompressionType.INT8_PTQ
    return {"compression_type": compression, "datamodule": Calibration(pictures)}


class Calibration:
    """As much of a data module as the export asks for."""

    train_batch_size = 1

    def __init__(self, pictures: NDArray) -> None:
        floats = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255
        self.dataset = [{"image": floats[number % len(floats)][None]} for number in range(ENOUGH)]

    def setup(self, stage: str) -> None:
        """Everything is there."""

    def val_dataloader(self) -> "Calibration":
        return self

    def __iter__(self) -> Any:
        return iter(self.dataset)


if __name__ == "__main__":
    main()
