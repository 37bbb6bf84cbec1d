"""The part of a model that ``model.onnx`` holds: normalisation, network and class map, at any size of the image.

Shapes besides those of ``structures``: S T rows and columns of the resized image.
"""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmseg.models.utils import Upsample
from torch import Tensor, nn

from ..models import EmbeddingSegmentor
from ..models.postprocess.passes import log_probabilities
from ..structures import bilinear_neighbours, map_size, sample_bilinear

INPUTS = ('image', 'rows', 'columns')
OUTPUTS = ('classes', 'probabilities', 'embeddings', 'cell_classes', 'row_cells', 'column_cells')


class ExportedNetwork(nn.Module):
    """Resizes, normalises and pads an image, runs the network, and computes the class map of the image.

    It computes what ``EmbeddingSegmentor`` computes for one whole image up to the grouping, by operations that torch.export
    follows with symbols in place of the sizes.

    Args:
        model: in evaluation mode. It is copied.
        divisor: both sides of the network's input are padded to multiples of it, below and to the right.
        eight_bits: resize whole numbers from 0 to 255 to whole numbers, as OpenCV does.
    """

    def __init__(self, model: EmbeddingSegmentor, divisor: int, eight_bits: bool) -> None:
        super().__init__()
        self.model = _with_symbolic_sizes(copy.deepcopy(model))
        self.divisor, self.eight_bits = divisor, eight_bits

    def forward(self, image_HWC: Tensor, row_S: Tensor, column_T: Tensor) -> tuple[Tensor, ...]:
        """Computes class map and embeddings.

        Args:
            image_HWC: (H, W, C) float32, colours in the order red, green, blue.
            row_S, column_T: (S,) and (T,) float32, where the middles of the rows and columns of the resized image lie on the
                image, in pixels: 0.5, 1.5, .. where it is not resized.

        Returns:
            class of each pixel (H, W) int32, 0 = none; its probability (H, W) float32; embeddings (D, h, w) float32, of length
            1 where the grouper compares directions; the classes under them (h, w) int32; and where the middles of the rows and
            columns of the image lie on the map of the embeddings, (H,) and (W,) float32, in cells.
        """
        preprocessor = self.model.data_preprocessor
        resize = _resize_eight_bits if self.eight_bits else sample_bilinear
        x_CST = resize(image_HWC.permute(2, 0, 1), row_S, column_T)
        if image_HWC.shape[2] == 3 and not preprocessor._channel_conversion:  # the pipeline's order is blue, green, red
            x_CST = x_CST.flip(0)
        if preprocessor._enable_normalize:
            x_CST = (x_CST - preprocessor.mean) / preprocessor.std
        image_size, size = (image_HWC.shape[0], image_HWC.shape[1]), map_size(x_CST)
        height, width = ((side + self.divisor - 1) // self.divisor * self.divisor for side in size)
        padding = (0, width - size[1], 0, height - size[0])
        x_1CHW = F.pad(x_CST, padding, value=float(preprocessor.pad_value))[None]
        # The image that enters the network counts as the original: positions in it are relative to its own size.
        meta = {'img_shape': size, 'ori_shape': size}
        scores_1Chw, embeddings_1Dhw = self.model.scores_and_embeddings(x_1CHW, [meta])
        of_scores, of_embeddings = (
            [_Axis(*axis) for axis in zip(image_size, size, (height, width), map_size(maps), strict=True)]
            for maps in (scores_1Chw, embeddings_1Dhw)
        )
        scores_CHW = sample_bilinear(
            scores_1Chw[0].float(), *(torch.clamp(axis.positions(), max=axis.inside() - 0.5) for axis in of_scores)
        )
        log_CHW = log_probabilities(scores_CHW, self.model.score_kind)
        probability_HW, class_HW = (log_CHW.softmax(0) if self.model.score_kind == 'logits' else log_CHW.exp()).max(0)
        class_HW = self.model.class_numbering.things(class_HW).int()
        rows, columns = of_embeddings
        class_hw = class_HW[rows.pixels()[:, None], columns.pixels()]
        x_Dhw = self.model.grouper.prepare(embeddings_1Dhw[0, :, : rows.inside(), : columns.inside()])
        return class_HW, probability_HW, x_Dhw, class_hw, rows.positions().float(), columns.positions().float()


def _resize_eight_bits(image_CHW: Tensor, row_S: Tensor, column_T: Tensor) -> Tensor:
    """OpenCV's bilinear interpolation of 8 bits: weights in parts of 2048, products cut to whole numbers, the sum rounded.

    Of one pixel in eight the exact value, rounded, is another one, and groups of uncertain pixels change with it.

    Args:
        image_CHW: whole numbers from 0 to 255.
        row_S, column_T: positions, as :func:`sample_bilinear` has them.
    """
    image_CHW = image_CHW.int()
    columns, rows = (
        [(cell, (weight * 2048).round().int()) for cell, weight in bilinear_neighbours(position, length)]
        for position, length in ((column_T, image_CHW.shape[2]), (row_S, image_CHW.shape[1]))
    )
    left_CHT, right_CHT = (image_CHW[:, :, cell] * weight for cell, weight in columns)
    x_CHT = (left_CHT + right_CHT) // 16
    upper_CST, lower_CST = (x_CHT[:, cell] * weight[:, None] // 65536 for cell, weight in rows)
    return ((upper_CST + lower_CST + 2) // 4).float()


class _Axis(NamedTuple):
    """Rows or columns of the image, the resized image, the padded one, and a map of the network: how many each has.

    :class:`MapPlacement` has the same with sizes that are numbers.
    """

    image: int
    resized: int
    padded: int
    cells: int

    def positions(self) -> Tensor:
        """Where the middles of the image's rows lie on the map, in cells."""
        middle_H = torch.arange(self.image, dtype=torch.float64) + 0.5
        return middle_H * self.resized / self.image * self.cells / self.padded

    def inside(self) -> int | torch.SymInt:
        """Number of cells whose middles lie on the image, at least 1."""
        return torch.sym_max(1, (2 * self.resized * self.cells + self.padded - 1) // (2 * self.padded))

    def pixels(self) -> Tensor:
        """The image's row at the middle of each of these cells."""
        middle_h = (torch.arange(self.inside(), dtype=torch.float64) + 0.5) * self.padded / self.cells
        return (middle_h * self.image / self.resized).floor().long().clamp(max=self.image - 1)


class _Enlarge(nn.Module):
    """mmseg's ``Upsample`` by a whole factor; that one computes the size in floating point."""

    def __init__(self, factor: int, mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.factor, self.mode, self.align_corners = factor, mode, align_corners

    def forward(self, x_NChw: Tensor) -> Tensor:
        size = [side * self.factor for side in x_NChw.shape[2:]]
        return F.interpolate(x_NChw, size, mode=self.mode, align_corners=self.align_corners)


class _AveragePool(nn.Module):
    """``AdaptiveAvgPool2d`` as two products of matrices: ONNX has none whose windows depend on the size of the map."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x_NChw: Tensor) -> Tensor:
        rows_Rh, columns_Sw = (
            _windows(count, length, x_NChw) for count, length in zip(self.size, map_size(x_NChw), strict=True)
        )
        return rows_Rh @ x_NChw @ columns_Sw.T


def _windows(count: int, length: int, like: Tensor) -> Tensor:
    """Weights of the pixels in each of ``count`` windows from floor(i length / count) to ceil((i + 1) length / count): (count,
    length)."""
    window_R1 = torch.arange(count, device=like.device)[:, None]
    pixel_h = torch.arange(length, device=like.device)
    inside_Rh = (pixel_h >= window_R1 * length // count) & (pixel_h < ((window_R1 + 1) * length + count - 1) // count)
    return inside_Rh.to(like) / inside_Rh.to(like).sum(1, keepdim=True)


class _EvenlyPadded(nn.Module):
    """timm's convolution with TensorFlow's padding, for maps whose sides are multiples of its stride: the padding is then always
    the same."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        extents = zip(convolution.kernel_size, convolution.dilation, convolution.stride, strict=True)
        rows, columns = (max(0, (kernel - 1) * dilation + 1 - stride) for kernel, dilation, stride in extents)
        self.padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)

    def forward(self, x_NChw: Tensor) -> Tensor:
        return nn.Conv2d.forward(self.convolution, F.pad(x_NChw, self.padding))


def _with_symbolic_sizes(model: EmbeddingSegmentor) -> EmbeddingSegmentor:
    """Replaces, in place, the modules that compute with sizes in ways that torch.export cannot follow."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, Upsample) and not module.size and float(module.scale_factor).is_integer():
                setattr(parent, name, _Enlarge(int(module.scale_factor), module.mode, module.align_corners))
            elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
                size: Any = module.output_size
                setattr(parent, name, _AveragePool((size, size) if isinstance(size, int) else size))
            elif type(module).__name__ == 'Conv2dSame':  # of timm, which need not be installed
                setattr(parent, name, _EvenlyPadded(module))
    return model


def write_onnx(network: ExportedNetwork, channels: int, settings: dict, path: Path) -> None:
    """Writes a network as ONNX, with the settings of the steps around it as json in its metadata, under ``settings``.

    Args:
        network: of a model.
        channels: of the image.
        settings: of :func:`export_settings`.
        path: of the file; the weights are inside it.
    """
    import onnx

    dynamic = torch.export.Dim.DYNAMIC
    # Sizes that differ, none of them a multiple of the divisor, so that no two of them count as one.
    example = (torch.rand(150, 170, channels), torch.arange(190) + 0.5, torch.arange(210) + 0.5)
    with torch.no_grad():
        program: Any = torch.onnx.export(
            network,
            example,
            dynamic_shapes=({0: dynamic, 1: dynamic}, {0: dynamic}, {0: dynamic}),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamo=True,
            verbose=False,
        )
    onnx_model = program.model_proto
    del onnx_model.metadata_props[:]
    onnx.helper.set_model_props(onnx_model, {'settings': json.dumps(settings)})
    for part in (onnx_model.graph, *onnx_model.functions):
        for node in part.node:
            node.ClearField('doc_string')
            del node.metadata_props[:]  # the lines of Python that it comes from, with paths of this machine
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx_model, path)
