"""Begin training with the weights of an exported network instead of random ones."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tools.demo_models.samples import IMAGENET_MEAN, IMAGENET_STD


@torch.no_grad()
def load_convolutions(model: nn.Module, path: Path, pictures: Tensor, normalised: bool) -> int:
    """Give ``model`` the convolutions of an ONNX file, as far as their shapes agree.

    Export has folded every batch normalisation into the convolution before it. Here it is set to
    what it does to ``pictures`` (B, 3, S, S), so that both together do the same again.

    Args:
        model: its first convolutions must come in the same order as in the file.
        path: of a network that was trained on pictures from 0 to 1.
        pictures: from the training.
        normalised: ``pictures`` are, by mean and deviation of ImageNet.

    Returns:
        how many convolutions were found.
    """
    graph = onnx.load(path).graph
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    for node in graph.node:  # what several layers share is named anew for each
        if node.op_type == "Identity" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    stored = iter([node for node in graph.node if node.op_type == "Conv"])
    loaded: set[nn.Module] = set()
    calibrated: set[nn.Module] = set()
    pending: dict[str, Tensor] = {}

    def before_convolution(layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        names = next(stored).input
        weight, bias = (torch.from_numpy(arrays[name].copy()) for name in names[1:3])
        if normalised and layer.in_channels == 3:
            mean, deviation = (torch.tensor(v) for v in (IMAGENET_MEAN, IMAGENET_STD))
            bias = bias + (weight.sum((2, 3)) * mean).sum(1)
            weight = weight * deviation[:, None, None]
        pending.clear()
        if weight.shape != layer.weight.shape:
            return
        layer.weight.copy_(weight)
        loaded.add(layer)
        if layer.bias is None:
            pending["bias"] = bias
        else:
            layer.bias.copy_(bias)

    def before_normalisation(layer: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
        if not pending or layer in calibrated:
            return
        calibrated.add(layer)
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        layer.weight.copy_((variance + layer.eps).sqrt())
        layer.bias.copy_(pending["bias"] + mean)

    hooks = [
        layer.register_forward_pre_hook(
            before_convolution if isinstance(layer, nn.Conv2d) else before_normalisation
        )
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    model.train()(pictures)
    for hook in hooks:
        hook.remove()
    return len(loaded)
