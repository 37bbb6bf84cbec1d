"""A small network with SoftMaskLoss, SeedGrouping and SeedScorer, from training to instances."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_instancenet.models import SilhouetteScorer
from mmseg_instancenet.models.postprocess import NetworkPass, predict_instances
from mmseg_instancenet.structures import MapPlacement

NORM = dict(type='BN')
SIZE = (32, 32)


def build(loss='SoftMaskLoss', grouper=None, scorer='SeedScorer'):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            data_preprocessor=dict(type='InstanceMapDataPreprocessor', pad_size_divisor=8),
            backbone=dict(type='UNet', base_channels=8, num_stages=3, strides=(1,) * 3, enc_num_convs=(1,) * 3,
                          dec_num_convs=(1,) * 2, downsamples=(True,) * 2, enc_dilations=(1,) * 3, dec_dilations=(1,) * 2,
                          norm_cfg=NORM),
            decode_head=dict(type='EmbeddingFCNHead', in_channels=8, in_index=2, channels=16, num_convs=1, concat_input=False,
                             dropout_ratio=0, num_classes=2, embedding_dims=4, pixels_per_unit=6.0, align_corners=False,
                             norm_cfg=NORM, loss_embedding=loss and dict(type=loss)),
            grouper=grouper or dict(type='SeedGrouping', connected=True, min_size=8),
            group_scorer=scorer and dict(type=scorer),
        )
    )  # fmt: skip
    model.init_weights()
    return model


def discs():
    """Three discs on a dark ground, two of them in contact: image (3, H, W) and instance map (H, W)."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    instances = np.zeros(SIZE, int)
    for k, (row, column, radius) in enumerate([(9, 8, 6), (9, 20, 6), (24, 16, 5)], start=1):
        instances[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = k
    image = (instances > 0) * 1.0 + np.random.default_rng(0).normal(size=SIZE) * 0.05
    return torch.from_numpy(image).float().expand(3, -1, -1).contiguous(), torch.from_numpy(instances)


def test_a_network_learns_one_image_and_finds_its_objects(device):
    image, instances = discs()
    model = build().to(device)
    truth = DetDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE))
    truth.gt_sem_seg = PixelData(data=(instances > 0).long()[None].to(device))
    truth.set_field(PixelData(data=instances[None].to(device)), 'gt_instance_map', dtype=PixelData)
    inputs, optimizer, history = image[None].to(device), torch.optim.Adam(model.parameters(), lr=0.01), []
    for _ in range(60):
        losses = model.loss(inputs, [truth])
        total, log = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(log['decode.loss_embedding'].item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert history[-1] < 0.25 * history[0]

    model.eval()
    with torch.no_grad():
        sample = DetDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE))
        result = model.predict(inputs, [sample])[0]
    found = result.pred_instance_map.data[0].cpu().numpy()
    scores = result.pred_instances.scores.cpu()
    for k in (1, 2, 3):
        true = instances.numpy() == k
        iou = max(((found == j) & true).sum() / ((found == j) | true).sum() for j in range(1, found.max() + 1))
        assert iou > 0.7
    assert found.max() == len(scores) == 3
    assert (scores > 0.3).all() and (scores <= 1).all()


@pytest.mark.parametrize('scorer', ['SeedScorer', None])
def test_pixels_join_by_position_whatever_the_bandwidths_and_seeds(scorer):
    """Two objects on a map of half the image's size: the pixel between them goes to the nearer one by x and y."""
    model = build(loss=None, grouper=dict(type='SeedGrouping'), scorer=scorer)
    # Values x, y, bandwidth, seed of four cells: an object around 0, with strong seeds, and one around 4.
    x_Dhw = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0] * 4, [1.0, 1.0, -1.0, -1.0], [1.0, 9.0, 1.0, 1.0]])[:, None]
    scores_Chw = torch.tensor([-5.0, 5.0])[:, None, None].expand(-1, 1, 4)
    image_size = (1, 16)
    placement = MapPlacement.from_meta(dict(ori_shape=image_size, img_shape=image_size), image_size, (0, 0))
    ones = torch.ones(image_size, dtype=torch.long)
    instances, labels_HW = predict_instances(
        [[NetworkPass(scores_Chw, x_Dhw, placement)]], ones, ones.float(), 2, model.grouper, model.group_scorer
    )
    # With bandwidths and seeds, means would be (0, 0, 1, 5) and (4, 0, -1, 1): pixels of the left half would join the right one.
    left, right = labels_HW[0, 0].item(), labels_HW[0, -1].item()
    assert labels_HW[0].tolist() == [left] * 8 + [right] * 8
    assert left != right
    if scorer is None:
        assert isinstance(model.group_scorer, SilhouetteScorer)
        assert instances.scores.tolist() == pytest.approx([2 / 10] * 2)  # each a point, of two cells
    else:
        seeds = 1 / (1 + np.exp(-np.array([1, 9.0])))
        expected = {left: seeds.mean(), right: seeds[0]}
        assert instances.scores.tolist() == pytest.approx([expected[1], expected[2]], abs=1e-6)


def test_seeds_need_a_loss_and_a_grouper_with_seeds():
    with pytest.raises(
        ValueError, match='SeedGrouping: expected a loss that trains bandwidths and seeds, SoftMaskLoss'
    ):
        build(loss='DiscriminativeLoss')
    for grouper in ('CenterGrouping', 'ClassGrouping'):
        with pytest.raises(ValueError, match=f'SeedScorer: expected a SeedGrouping as the grouper.*got {grouper}'):
            build(grouper=dict(type=grouper))
    # The loss goes with other groupers, and a grouper for testing with no loss.
    assert type(build(grouper=dict(type='CenterGrouping'), scorer=None).grouper).__name__ == 'CenterGrouping'
    assert build(loss=None).decode_head.loss_embedding is None
