"""Measures the costs of a model: parameters, FLOPs, time and memory of an image, memory of training."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from torch import Tensor, nn

from ..apis import init_model
from ..apis.analysis_run import images_of
from ..apis.image_input import input_channels
from ..models import BoundarySegmentor, EmbeddingSegmentor, SeedGrouping
from ..structures import map_size, resize_labels, unit_vectors
from .flops import FlopCount, count_flops
from .measure import seconds_of, torch_peak

Size = tuple[int, int]
Segmentor = EmbeddingSegmentor | BoundarySegmentor

_OBJECTS_A_SIDE = 4


class Seconds(NamedTuple):
    """Time of a call: by the clock, and of the processor in all threads of the process, which other programs on the machine
    hardly change."""

    clock: float
    processor: float


class ModelCosts(NamedTuple):
    """Costs of a model on images of one size.

    parameters: of the network, without auxiliary heads, which only training runs.
    flop_count: of the network, for one image, without the grouping.
    network: median time of the network for one image.
    predict: median time from the image to its instances or boundaries: normalisation, network, grouping, scores, masks.
    num_instances: found in the image, of 16 that are drawn. ``None`` for boundaries.
    predict_bytes: torch's peak memory of that, above the weights.
    train_bytes: torch's peak memory of a training iteration above the weights, with the gradients and the moments of the
        optimizer. ``None`` if it was not measured.
    """

    parameters: int
    flop_count: FlopCount
    network: Seconds
    predict: Seconds
    num_instances: int | None
    predict_bytes: int | None
    train_bytes: int | None


def tested_size(config: Config) -> Size:
    """(height, width) of the largest input that the resize of a config's test pipeline makes.

    Raises:
        ValueError: if images keep their size there.
    """
    for step in images_of(config.test_dataloader.dataset)['pipeline']:
        if 'length' in step:  # ResizeLongerSide
            return step['length'], step['length']
        if step['type'].split('.')[-1] == 'Resize' and 'scale' in step:
            width, height = step['scale']
            return height, width
    raise ValueError(
        'expected a test pipeline with ResizeLongerSide or Resize, whose size is that of the test, got one in which images keep '
        'theirs: name the size of an image (--shape HEIGHT WIDTH)'
    )


def load_model(config: str | Config, device: str) -> Segmentor:
    """The model of a config with random weights, or a shipped model by its name: for testing, without a download.

    Args:
        config: name of a shipped model, config file, or what was read from one.
        device: of the weights.
    """
    torch.manual_seed(0)
    options = {}
    if isinstance(config, Config) and config.model.backbone.get('checkpoint_path'):
        options['model.backbone.checkpoint_path'] = ''  # a file that tools/convert/ writes
    return init_model(config, device=device, cfg_options=options)


def measure_costs(model: Segmentor, size: Size, train_images: int = 0, repeats: int = 5) -> ModelCosts:
    """Measures the costs of a model on its device. The FLOPs are counted first, on the CPU.

    The image is drawn: noise, which needs no resizing. The groups of random weights are no objects, and a grouping costs what it
    finds: in its place 16 drawn objects are grouped (:func:`drawn_output`). Network and prediction are timed in turn, after the
    prediction whose memory is measured.

    Args:
        model: from :func:`load_model` or ``init_model``; its weights change if it is trained.
        size: (height, width) of the image.
        train_images: number of images in the batch of a training iteration, with 16 objects each, by the config's
            optimizer, all parameters trained; 0 for no training.
        repeats: of each time.
    """
    device = str(next(model.parameters()).device).partition(':')[0]
    channels = input_channels(model)
    if channels is None:
        raise ValueError(
            'expected a backbone with a convolution, whose input has the channels of an image, got one without'
        )
    flops = count_flops(model.cpu(), torch.zeros(1, channels, *size))
    model.to(device)
    batch = labelled_batch(size, channels, model.num_classes, 1)
    inputs = model.data_preprocessor(batch, False)

    def run_network() -> Any:
        return model(inputs['inputs'], inputs['data_samples'], mode='tensor')

    def predict() -> Any:
        # Predictions are written into the samples.
        return model.test_step({**batch, 'data_samples': [sample.clone() for sample in batch['data_samples']]})

    of_objects = (
        drawn_output(model, *_objects(size, model.num_classes))
        if isinstance(model, EmbeddingSegmentor)
        else nullcontext()
    )
    with torch.no_grad(), of_objects:
        results, predict_bytes = torch_peak(predict, device)
        network, predicted = _medians([run_network, predict], device, repeats)
    found = len(results[0].pred_instances) if 'pred_instances' in results[0] else None
    auxiliary = getattr(model, 'auxiliary_head', None)
    parameters = _count(model) - (0 if auxiliary is None else _count(auxiliary))
    train_bytes = _train_bytes(model, size, channels, train_images, device) if train_images else None
    return ModelCosts(parameters, flops, network, predicted, found, predict_bytes, train_bytes)


def labelled_batch(size: Size, channels: int, num_classes: int, images: int) -> dict[str, list]:
    """A batch for ``train_step`` or ``test_step``, as from a data loader: images of noise that need no resizing, with 16
    rectangular objects each, of all classes in turn."""
    generator = torch.Generator().manual_seed(0)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
    ids_HW, classes_HW = _objects(size, num_classes)
    batch: dict[str, list] = {'inputs': [], 'data_samples': []}
    for index in range(images):
        sample = DetDataSample(metainfo=dict(meta, img_id=index), gt_sem_seg=PixelData(data=classes_HW[None]))
        sample.set_field(PixelData(data=ids_HW[None]), 'gt_instance_map', dtype=PixelData)
        batch['inputs'].append(torch.randint(256, (channels, *size), generator=generator).byte())
        batch['data_samples'].append(sample)
    return batch


@contextmanager
def drawn_output(model: EmbeddingSegmentor, ids_HW: Tensor, classes_HW: Tensor) -> Iterator[None]:
    """Context in which a model runs its network and returns drawn class scores and embeddings in place of the network's.

    The embeddings of an object lie around a random direction, at a distance of a tenth of a unit on the mean, those of the
    background around another; on the sphere at length 1, else at length 10. For a :class:`SeedGrouping` bandwidths are 1 and
    each pixel is a seed. Scores leave no doubt about the class.

    Args:
        model: its ``scores_and_embeddings`` is replaced.
        ids_HW, classes_HW: instance map and class map of the objects, (H, W) int64 at the size of the input.
    """
    network = model.scores_and_embeddings
    drawn: list[Tensor] = []

    def scores_and_embeddings(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        outputs = network(*args, **kwargs)
        if not drawn:
            drawn.extend(draw(*outputs))
        return tuple(drawn)

    def draw(scores_NChw: Tensor, embeddings_NDhw: Tensor) -> tuple[Tensor, Tensor]:
        class_hw = resize_labels(classes_HW[None], map_size(scores_NChw))[0]
        score_hwC = F.one_hot(class_hw, scores_NChw.shape[1]).float()
        if model.score_kind != 'probabilities':
            score_hwC = 20 * score_hwC - 10
        id_hw = resize_labels(ids_HW[None], map_size(embeddings_NDhw))[0]
        generator = torch.Generator().manual_seed(0)
        dims = embeddings_NDhw.shape[1]
        mean_KD = unit_vectors(torch.randn(int(ids_HW.max()) + 1, dims, generator=generator), dim=1)
        noise_hwD = torch.randn(*id_hw.shape, dims, generator=generator) * (0.1 / dims**0.5)
        embedding_hwD = mean_KD[id_hw] * (1 if model.grouper.only_directions else 10) + noise_hwD
        if isinstance(model.grouper, SeedGrouping):
            embedding_hwD[..., -2:] = torch.tensor([0.0, 5.0])
        return score_hwC.movedim(2, 0)[None].to(scores_NChw), embedding_hwD.movedim(2, 0)[None].to(embeddings_NDhw)

    model.scores_and_embeddings = scores_and_embeddings  # type: ignore[method-assign, assignment]  # of this model alone
    try:
        yield
    finally:
        del model.scores_and_embeddings


def _objects(size: Size, num_classes: int) -> tuple[Tensor, Tensor]:
    """Instance map and class map (H, W) of a grid of rectangles, half of the image's pixels or less."""
    ids_HW, classes_HW = (torch.zeros(size, dtype=torch.long) for _ in range(2))
    height, width = (max(2, side // _OBJECTS_A_SIDE) for side in size)
    for number in range(_OBJECTS_A_SIDE**2):
        top, left = number // _OBJECTS_A_SIDE * height, number % _OBJECTS_A_SIDE * width
        part = slice(top, top + height * 2 // 3), slice(left, left + width * 2 // 3)
        ids_HW[part], classes_HW[part] = number + 1, 1 + number % (num_classes - 1)
    return ids_HW, classes_HW


def _train_bytes(model: Segmentor, size: Size, channels: int, images: int, device: str) -> int | None:
    settings = model.cfg.optim_wrapper
    if device == 'cpu' and settings.type == 'AmpOptimWrapper':  # MMEngine refuses it on a CPU
        settings = dict(type='OptimWrapper', optimizer=settings.optimizer)
    optim_wrapper = build_optim_wrapper(model, settings)
    optimizer = optim_wrapper.optimizer
    # With gradients of 0, the optimizer's first step makes its moments, which are in memory in all later iterations.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    optimizer.zero_grad()
    batch = labelled_batch(size, channels, model.num_classes, images)
    model.train()
    _, peak_bytes = torch_peak(lambda: model.train_step(batch, optim_wrapper), device)
    model.eval()
    if peak_bytes is None:
        return None
    values = [value for state in optimizer.state.values() for value in state.values()]
    return peak_bytes + sum(value.nbytes for value in values if isinstance(value, Tensor))


def _medians(functions: list[Callable[[], Any]], device: str, repeats: int) -> list[Seconds]:
    """Median times of each function; they run in turn."""
    times: list[list[Seconds]] = [[] for _ in functions]
    for _ in range(repeats):
        for of_function, run in zip(times, functions, strict=True):
            before = time.process_time()
            clock = seconds_of(run, device)
            of_function.append(Seconds(clock, time.process_time() - before))
    return [Seconds(*map(median, zip(*of_function, strict=True))) for of_function in times]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
