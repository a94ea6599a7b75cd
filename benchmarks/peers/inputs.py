"""The networks, graphs and frames that every contender is given.

Per network, a folder with ``facts.json`` (size, mean, std, classes), ``frames.npy`` and ``calibration.npy`` (rendered
street, Nx512x512x3 uint8 BGR), ``network.pt`` (the torch module), ``plain.onnx`` (normalised RGB planes to scores, as
people export it), ``scores.onnx`` (planes of BGR of 0-255 to scores, as ``edgeseg export`` gives it to other runtimes),
``frame.onnx`` (our FP32 graph: frame in, class map out) and ``bundle.edgeseg`` (that and our INT8 graph for CPUs).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import edgeseg
from edgeseg.app.shipped import SHIPPED
from edgeseg.builder.networks import NetworkConfig, network_from_config
from edgeseg.bundle import Bundle, read_bundle, write_bundle
from edgeseg.compiler.graph.unfolded import unfolded_onnx
from edgeseg.compiler.importers.torch_export import onnx_from_module
from edgeseg.compiler.options import CompileOptions
from edgeseg.compiler.steps.float_graph import float_graph_from_bundle
from edgeseg.demo.street import StreetDataset
from edgeseg.engines.ort import OrtEngine
from edgeseg.preprocess import normalized
from edgeseg.recipes import FP32
from edgeseg.spec import ModelSpec

SIZE_HW = (512, 512)
FRAMES = "demo://street?seed=40&frames=8&step=60&size=512x512"
CALIBRATION = "demo://street?seed=20&frames=32&step=60&size=512x512"
_SAME = 0.999
_READY = "ready"


def shipped_network() -> nn.Module:
    """Return the shipped network as the torch module that it was, with its weights.

    A bundle holds weights with BatchNorm folded into them. They are put back into the convolutions, and BatchNorm does
    nothing with them but costs its time, as in training's network.

    Raises:
        RuntimeError: the module computes something else than the bundle.
    """
    bundle = read_bundle(SHIPPED)
    network = network_from_config(NetworkConfig(**bundle.provenance["network"])).eval()
    _put_folded_weights(network, float_graph_from_bundle(bundle), bundle.spec)
    frame = StreetDataset(FRAMES)[0].frame
    with OrtEngine(bundle.graphs[FP32].onnx) as engine, torch.inference_mode():
        bundle.spec.resized(frame, out=engine.input[0])
        found = network(torch.from_numpy(normalized(engine.input, bundle.spec.preprocess))).argmax(1).numpy()
        agreement = float((found == engine.infer(engine.input)).mean())
    if agreement < _SAME:
        raise RuntimeError(f"the shipped network was not restored: {agreement:.2%} of its pixels agree with the bundle")
    return network


def _put_folded_weights(network: nn.Module, graph: onnx.ModelProto, spec: ModelSpec) -> None:
    weights = {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer}
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    called: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(lambda module, given, result: called.append(module))
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, *spec.size_hw))
    for hook in hooks:
        hook.remove()
    taken = iter(convolutions)
    for module, after in zip(called, [*called[1:], None]):
        if not isinstance(module, nn.Conv2d):
            continue
        node = next(taken)
        weight, bias = (torch.from_numpy(weights[name].copy()) for name in node.input[1:3])
        if node is convolutions[0]:  # it takes BGR of 0-255, the module RGB that is divided by std
            weight = weight.flip(1) * 255 * torch.tensor(spec.preprocess.std).view(1, 3, 1, 1)
        with torch.no_grad():
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.copy_(bias)
            elif isinstance(after, nn.BatchNorm2d) and after.running_mean is not None and after.running_var is not None:
                after.running_mean.zero_()
                after.running_var.fill_(1 - after.eps)
                after.weight.fill_(1)
                after.bias.copy_(bias)


def untrained_unet() -> nn.Module:
    """Return ``smp.Unet("mobilenet_v2")`` with random weights and BatchNorm statistics that fit them."""
    torch.manual_seed(0)
    network = edgeseg.build("unet", "mobilenet_v2", 11, weights=None)
    network.train()
    with torch.no_grad():
        for _ in range(8):
            network(torch.randn(4, 3, 64, 96))
    return network.eval()


NETWORKS: dict[str, Callable[[], nn.Module]] = {"edge_unet": shipped_network, "unet": untrained_unet}
"""What is timed: the shipped network with its weights, and that of the founding claim, whose weights are random."""


def make_inputs(name: str, folder: Path) -> None:
    """Write the folder of a network, unless it is there."""
    if (folder / _READY).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(read_bundle(SHIPPED).spec, size_hw=SIZE_HW)
    frames, calibration = StreetDataset(FRAMES), StreetDataset(CALIBRATION)
    module = NETWORKS[name]()
    options = CompileOptions(("int8-cpu",), "minmax", gate=False, mixed=False)
    bundle = edgeseg.compile_model(module, spec, evaluation=frames, calibration=calibration, options=options).bundle
    write_bundle(bundle, folder / "bundle.edgeseg")
    torch.save(module, folder / "network.pt")
    _write_graphs(bundle, module, folder)
    for stem, images in (("frames", frames), ("calibration", calibration)):
        np.save(folder / f"{stem}.npy", np.stack([images[index].frame for index in range(len(images))]))
    facts = {"size_hw": SIZE_HW, "mean": spec.preprocess.mean, "std": spec.preprocess.std, "classes": len(spec.classes)}
    (folder / "facts.json").write_text(json.dumps(facts))
    (folder / _READY).touch()


def _write_graphs(bundle: Bundle, module: nn.Module, folder: Path) -> None:
    frame = float_graph_from_bundle(bundle).SerializeToString()
    (folder / "frame.onnx").write_bytes(frame)
    scores = onnx.load_model_from_string(unfolded_onnx(frame, FP32, SIZE_HW))
    onnx.save(_for_one_frame(scores), str(folder / "scores.onnx"))
    onnx.save(onnx_from_module(module, SIZE_HW), str(folder / "plain.onnx"))


def _for_one_frame(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose batch is open for one frame, as all others here: engines are faster with fixed shapes."""
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)
