"""Models whose losses and gradients on a batch can be compared with those of several processes that share the batch.

Eight images of 32 x 32 pixels. Their numbers of instances and of ignored pixels differ, so that a loss divided by the count of
its own process would show. Images 2 and 3 have no instance, and image 3 not even a labelled pixel: of four processes one has no
instance.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import Tensor, nn

CONFIGS = Path(__file__).parents[1] / 'configs'
IMAGES, SIDE = 8, 32
GROUP_NORM = dict(type='GN', num_groups=2)


def digits(name: str = 'instancenet_digits', **decode_head: object) -> dict:
    """Config of a small network for digits: four channels in place of sixteen."""
    config = Config.fromfile(CONFIGS / f'{name}.py').model
    deep = config.decode_head.type == 'EmbeddingHead'
    widths = (
        dict(in_channels=32, channels=8, c1_in_channels=4, c1_channels=4) if deep else dict(in_channels=4, channels=8)
    )
    config.backbone.base_channels = 4
    for key, value in {**widths, **decode_head}.items():
        config.decode_head[key] = value
    return config


def with_group_norm(config: dict) -> dict:
    for part in (config['backbone'], config['decode_head']):
        part['norm_cfg'] = GROUP_NORM
    return config


def boundary() -> dict:
    backbone = digits()['backbone']
    loss = dict(type='SphericalPairLoss', margin=0.5, variant='released', negative_weight=5.0)
    head = dict(type='BoundaryHead', in_channels=(4, 8), in_index=(3, 2), embedding_dims=3, loss_embedding=loss)
    return dict(type='BoundarySegmentor', backbone=backbone, decode_head=head, test_cfg={})


def _boundary_embeddings() -> nn.Module:
    model = MODELS.build(boundary())
    model.decode_head.conv_seg.requires_grad_(False)  # as BoundaryPhaseHook does
    model.decode_head.set_phase('embedding')
    return model


CLASS_LOSSES = [dict(type='WeightedCrossEntropyLoss', loss_weight=0.4), dict(type='ClassDiceLoss', eps=0.5)]
SPHERE = dict(embedding_dims=4, unit_length=True, pixels_per_unit=8.0)

CASES: dict[str, Callable[[], nn.Module]] = {
    'DiscriminativeLoss, class-agnostic': lambda: MODELS.build(digits()),
    'DiscriminativeLoss, group norm': lambda: MODELS.build(with_group_norm(digits('instancenet_digits_per-class'))),
    'SphericalPairLoss, class losses': lambda: MODELS.build(
        digits(loss_embedding=dict(type='SphericalPairLoss'), loss_decode=CLASS_LOSSES, **SPHERE)
    ),
    'SoftMaskLoss': lambda: MODELS.build(digits(loss_embedding=dict(type='SoftMaskLoss'), embedding_dims=4)),
    'RecurrentLoss': lambda: MODELS.build(with_group_norm(digits('recurrent-embedding_digits'))),
    'ProposalSegmentor': lambda: MODELS.build(digits('recurrent-embedding_proposals_digits')),
    'BoundarySegmentor, embeddings': _boundary_embeddings,
    'BoundarySegmentor, fusion': lambda: MODELS.build(boundary()),
}
"""Models with the losses of the package, by name; batch norm is frozen, or replaced by group norm."""
OF_ONE_PROCESS: dict[str, Callable[[], nn.Module]] = {
    "mmseg's CrossEntropyLoss, avg_non_ignore": lambda: MODELS.build(
        digits(loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    ),
}
"""Those that divide by the count of their own process."""


def make_batch(boundaries: bool) -> tuple[Tensor, list[DetDataSample]]:
    """Images (8, 3, 32, 32) float32 and their labels."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator)
    samples = []
    for number in range(IMAGES):
        ids = torch.zeros(SIDE, SIDE, dtype=torch.long)
        for instance in range(1, 1 if number in (2, 3) else 2 + number % 4):
            row, column = torch.randint(0, SIDE - 8, (2,), generator=generator).tolist()
            ids[row : row + 8, column : column + 4 + instance] = instance
        classes = torch.where(ids > 0, 1 + (ids + number) % 3 if not boundaries else 1, 0)
        ids[: 3 * number], classes[: 3 * number] = -1, 255
        if number == 3:
            ids[:], classes[:] = -1, 255
        meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (SIDE, SIDE))
        sample = DetDataSample(metainfo=meta)
        sample.gt_instance_map = PixelData(data=(ids if not boundaries else torch.where(ids > 0, 1, ids))[None])
        sample.gt_sem_seg = PixelData(data=classes[None])
        samples.append(sample)
    return images, samples


def losses_and_gradients(name: str, dtype: torch.dtype, rank: int = 0, count: int = 1) -> dict[str, Tensor]:
    """The losses of a model on a share of the batch, and the gradient of each parameter.

    Args:
        name: of ``CASES`` or ``OF_ONE_PROCESS``.
        rank, count: which of how many shares. With several, DistributedDataParallel averages the gradients.
    """
    init_default_scope('mmseg')
    MessageHub.get_instance('batch_shares')
    torch.manual_seed(3)
    model = (CASES | OF_ONE_PROCESS)[name]()
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    images, samples = make_batch(boundaries=name.startswith('Boundary'))
    own = slice(rank * IMAGES // count, (rank + 1) * IMAGES // count)
    network = model
    if count > 1:
        wrapper = dict(type='CPUDistributedDataParallel', broadcast_buffers=False)
        network = MODEL_WRAPPERS.build(wrapper, default_args=dict(module=model, device_ids=[rank]))
    total, values = model.parse_losses(network(images[own].to(dtype), samples[own], mode='loss'))
    total.backward()
    found = {key: value.detach() for key, value in values.items() if 'loss' in key}
    return found | {key: value.grad for key, value in model.named_parameters() if value.requires_grad}


def shares_of_rank(names: list[str], dtypes: list[torch.dtype]) -> list[list[dict[str, Tensor]]]:
    """:func:`losses_and_gradients` of this process of a group, for each type and name."""
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return [[losses_and_gradients(name, dtype, rank, count) for name in names] for dtype in dtypes]


def largest_difference(shares: list[dict[str, Tensor]], whole: dict[str, Tensor], by_parameter: bool = True) -> float:
    """The largest relative difference of the losses and gradients from those of the whole batch.

    The losses are averaged over the processes. Of a gradient it is the length of the difference by that of the gradient: of each
    parameter, or of all together. Float32 needs the latter: the gradient of a bias can be a sum of parts that cancel to a
    hundred-thousandth of the whole, and one process has it to four digits only. Infinity where the processes have different
    gradients.
    """
    losses, parameters = ([key for key in whole if ('loss' in key) == is_loss] for is_loss in (True, False))
    if not all(torch.equal(shares[0][key], share[key]) for share in shares for key in parameters):
        return float('inf')
    pairs = [(torch.stack([share[key] for share in shares]).mean(0), whole[key]) for key in losses]
    if by_parameter:
        pairs += [(shares[0][key], whole[key]) for key in parameters]
    else:
        found, expected = (torch.cat([of[key].flatten() for key in parameters]) for of in (shares[0], whole))
        pairs.append((found, expected))
    length = torch.linalg.vector_norm
    relative = [float(length(found - expected)) / (float(length(expected)) or 1.0) for found, expected in pairs]
    return float(torch.tensor(relative).max())  # NaN where one is NaN, unlike Python's max
