"""Pooled proposals against loops over masks, and the segmentor on a network with known output."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from pycocotools import mask as coco_mask

from mmseg_instancenet.evaluation.functional.mask_overlap import mask_iou, match_greedily
from mmseg_instancenet.models.postprocess.proposals import pool_proposals
from mmseg_instancenet.models.segmentors.proposal import object_scores

NORM = dict(type='BN')
SIZE = (24, 32)


def build(kind='ProposalSegmentor', num_classes=4, **settings):
    torch.manual_seed(0)
    grouper = dict(type='MeanShiftGrouping', kernel='norm', concentration=1, class_agnostic=True)
    if kind == 'ProposalSegmentor':
        settings = {'more_groupers': [dict(concentration=400)], **settings}
    return MODELS.build(
        dict(
            type=kind,
            data_preprocessor=dict(type='InstanceMapDataPreprocessor'),
            backbone=dict(type='ResNetV1c', depth=18, base_channels=4, norm_cfg=NORM),
            decode_head=dict(type='EmbeddingFCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, norm_cfg=NORM,
                             num_classes=num_classes, embedding_dims=2, loss_embedding=dict(type='DiscriminativeLoss')),
            grouper=grouper | settings.pop('grouper', {}),
            **settings,
        )
    ).eval()  # fmt: skip


def known(model):
    """Makes the network return its input: class scores and embeddings as channels, (C + D, H, W)."""
    model.scores_and_embeddings = lambda inputs, metas, origin: inputs.tensor_split([model.num_classes], dim=1)
    return model


def scene(num_classes=4):
    """An object A of 8 x 8 and an object B of 8 x 12 whose two parts (8 x 6) lie 0.3 apart in the embedding.

    The parts of B have classes 2 and 3; a grouper of bandwidth 1 finds A and B, one of bandwidth 0.05 A and the two parts.
    """
    classes, parts = np.zeros(SIZE, int), np.zeros(SIZE, int)
    for part, (rows, columns, label) in enumerate(
        [
            (slice(2, 10), slice(2, 10), 1),
            (slice(12, 20), slice(14, 20), 2),
            (slice(12, 20), slice(20, 26), 3),
        ],
        start=1,
    ):
        classes[rows, columns], parts[rows, columns] = label, part
    scores = np.eye(num_classes)[classes].transpose(2, 0, 1) * 20
    embeddings = np.array([[0, 0], [0, 0], [8, 0], [8, 0.3]])[parts].transpose(2, 0, 1)
    return torch.from_numpy(np.concatenate([scores, embeddings])).float(), parts


def sample(truth=None, **meta):
    result = DetDataSample(metainfo=dict(ori_shape=SIZE, img_shape=SIZE, **meta))
    if truth is not None:
        result.gt_sem_seg = PixelData(data=torch.from_numpy(truth)[None])
    return result


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_smoke():
    model = build()
    result = model.predict(torch.rand(1, 3, *SIZE), [sample()])[0]
    assert tuple(result.pred_instance_map.data.shape) == (1, *SIZE)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(grouper=dict(class_agnostic=False)), 'class_agnostic=True'),
        (dict(test_cfg=dict(score_thr=0.5)), 'no test_cfg.score_thr for proposals, got 0.5'),
        (dict(duplicate_iou=0), r'duplicate_iou in \(0, 1\), got 0'),
        (dict(duplicate_iou=1.0), r'got 1.0'),
        (dict(more_groupers=[dict(concentration=-1)]), 'concentration > 0, got -1'),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_pooling_refuses_a_wrong_threshold():
    with pytest.raises(ValueError, match='got 1.5'):
        pool_proposals([], np.zeros(0), np.zeros(0, int), 1.5)


def plain_pool(masks, scores, sources, duplicate_iou):
    def iou(a, b):
        return (a & b).sum() / (a | b).sum()

    used = sorted(set(sources))
    ranks = []
    for m, score in zip(masks, scores, strict=True):
        best = [max(iou(m, other) for other, s in zip(masks, sources, strict=True) if s == source) for source in used]
        ranks.append(score * sum(best) / len(used))
    kept = []
    for index in sorted(range(len(masks)), key=lambda i: -ranks[i]):
        if all(iou(masks[index], masks[other]) <= duplicate_iou for other in kept):
            kept.append(index)
    return kept, [ranks[index] for index in kept]


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('duplicate_iou', [0.3, 0.7, 0.95])
def test_pooling_equals_loops(seed, duplicate_iou):
    rng = np.random.default_rng(seed)
    base = np.kron(rng.integers(0, 5, (4, 5)), np.ones((3, 3), int))
    masks, sources = [], []
    for source in (0, 2, 5):  # numbers of the groupings need not follow one another
        labels = np.where(rng.random(base.shape) < 0.1 * source, rng.integers(0, 5, base.shape), base)
        for label in range(1, 5):
            if (labels == label).any():
                masks.append(labels == label)
                sources.append(source)
    scores = rng.random(len(masks))
    kept, ranks = pool_proposals([encode(mask) for mask in masks], scores, np.array(sources), duplicate_iou)
    expected, expected_ranks = plain_pool(masks, scores, sources, duplicate_iou)
    assert kept.tolist() == expected
    np.testing.assert_allclose(ranks, expected_ranks)
    assert (np.diff(ranks) <= 0).all()


def test_pooling_nothing():
    kept, ranks = pool_proposals([], np.zeros(0), np.zeros(0, int), 0.9)
    assert kept.shape == ranks.shape == (0,) and kept.dtype.kind == 'i'


def test_pooling_one_grouping_keeps_its_order_by_score():
    masks = [encode(np.arange(6)[None] == column) for column in range(4)]
    kept, ranks = pool_proposals(masks, np.array([0.2, 0.9, 0.9, 0.5]), np.zeros(4, int), 0.9)
    assert kept.tolist() == [1, 2, 3, 0]
    assert ranks.tolist() == pytest.approx([0.9, 0.9, 0.5, 0.2])


def test_objects_are_the_things_of_the_class_map():
    scores = torch.randn(5, 6, 7) * 3
    of_objects = object_scores(scores, torch.tensor([False, True, True, True, True]))
    assert torch.equal(of_objects.argmax(0), (scores.argmax(0) > 0).long())
    assert torch.equal(of_objects, torch.stack([scores[0], scores[1:].max(0).values]))
    of_objects = object_scores(scores, torch.tensor([False, True, False, True, False]))
    assert torch.equal(of_objects, torch.stack([scores[[0, 2, 4]].amax(0), scores[[1, 3]].amax(0)]))


def test_proposals_of_a_known_network():
    model, (table, parts) = known(build()), scene()
    result = model.predict(table[None], [sample()])[0]
    proposals = result.pred_instances
    # A from both groupings; B and its parts from one each, whose best counterpart covers half of it or twice.
    # Silhouette: B's pixels lie 0.15 from its mean, and no other group nearer than the scale of 3. Size: n / (n + 8).
    expected = [
        (parts == 1, 64 / 72),
        ((parts == 2) | (parts == 3), (1 - 0.15 / 3) * 96 / 104 * (1 + 0.5) / 2),
        (parts == 2, 48 / 56 * (1 + 0.5) / 2),
        (parts == 3, 48 / 56 * (1 + 0.5) / 2),
    ]
    assert proposals.scores.tolist() == pytest.approx([score for _, score in expected], rel=1e-4)
    for mask, box, (truth, _) in zip(proposals.masks, proposals.bboxes.tolist(), expected, strict=True):
        assert np.array_equal(coco_mask.decode(mask), truth)
        rows, columns = np.nonzero(truth)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert proposals.labels.tolist() == [0, 0, 0, 0]
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), parts > 0)
    # B, the better one, hides its parts.
    assert np.array_equal(result.pred_instance_map.data[0].numpy(), np.array([0, 1, 2, 2])[parts])


def test_the_map_shows_the_best_proposal_of_each_pixel():
    """Groupings of noise, against the masks painted from the last to the first."""
    model = known(build(more_groupers=[dict(concentration=c) for c in (4, 30, 300)], duplicate_iou=0.6))
    table, _ = scene()
    table[4:] += torch.randn(table[4:].shape, generator=torch.Generator().manual_seed(0)) * 0.4
    result = model.predict(table[None], [sample()])[0]
    proposals = result.pred_instances
    assert len(proposals) > 10 and (proposals.scores.diff() <= 0).all()
    painted = np.zeros(SIZE, int)
    for place in range(len(proposals), 0, -1):
        painted[coco_mask.decode(proposals.masks[place - 1]) > 0] = place
    assert np.array_equal(result.pred_instance_map.data[0].numpy(), painted)
    iou = mask_iou(proposals.masks, proposals.masks) - np.eye(len(proposals))
    assert iou.max() <= 0.6


def test_true_classes_become_objects_and_void_stays():
    model, (table, parts) = known(build(test_cfg=dict(classes='ground_truth'))), scene()
    truth = np.array([0, 255, 3, 1])[parts]
    result = model.predict(table[None], [sample(truth)])[0]
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), np.array([0, 255, 1, 1])[parts])
    covered = sum(coco_mask.decode(mask) for mask in result.pred_instances.masks) > 0
    assert np.array_equal(covered, parts > 1)


def test_background_groups_are_no_proposals():
    model, (table, parts) = known(build(grouper=dict(background_groups=True))), scene()
    table[4:, torch.from_numpy(parts == 0)] = -8.0
    proposals = model.predict(table[None], [sample()])[0].pred_instances
    assert len(proposals) == 4
    assert not any((coco_mask.decode(mask) > 0)[parts == 0].any() for mask in proposals.masks)


def test_two_views_agree():
    model, (table, _) = known(build()), scene()
    single = model.predict(table[None], [sample()])[0]
    turned = table.flip(2)
    turned[4:] = 40 - turned[4:]  # another embedding space
    data = dict(
        inputs=[[table], [turned]],
        data_samples=[[sample()], [sample(flip=True, flip_direction='horizontal')]],
    )
    both = MODELS.build(dict(type='EmbeddingTTAModel', module=model)).test_step(data)[0]
    assert both.pred_instances.masks == single.pred_instances.masks
    torch.testing.assert_close(both.pred_instances.scores, single.pred_instances.scores, rtol=1e-3, atol=0)


def test_an_image_without_objects():
    model, (table, _) = known(build()), scene()
    table[0] += 100
    result = model.predict(table[None], [sample()])[0]
    proposals = result.pred_instances
    assert len(proposals) == 0 and proposals.masks == [] and proposals.bboxes.shape == (0, 4)
    assert proposals.labels.dtype == torch.long
    assert not result.pred_instance_map.data.any()


def test_a_grouper_that_finds_nothing_does_not_count():
    model, (table, _) = known(build(more_groupers=[dict(connected=True, min_size=1000)])), scene()
    proposals = model.predict(table[None], [sample()])[0].pred_instances
    assert proposals.scores.tolist() == pytest.approx([64 / 72, (1 - 0.15 / 3) * 96 / 104], rel=1e-4)


def test_checkpoints_of_the_parent_fit():
    parent, child = build('EmbeddingSegmentor'), build()
    assert sorted(parent.state_dict()) == sorted(child.state_dict())
    child.load_state_dict(parent.state_dict(), strict=True)


def test_the_order_beats_a_random_one():
    """Noisy embeddings of four squares, four bandwidths: of the first four proposals far more are right."""
    rng = np.random.default_rng(0)
    model = known(build(num_classes=2, more_groupers=[dict(concentration=c) for c in (4, 16, 64)]))
    found = {'score': 0.0, 'random': 0.0}
    for _ in range(12):
        instances = np.zeros(SIZE, int)
        for number, (top, left) in enumerate([(1, 1), (1, 17), (13, 1), (13, 17)], 1):
            height, width = rng.integers(6, 11), rng.integers(6, 14)
            instances[top : top + height, left : left + width] = number
        centers = np.concatenate([[[0, 0]], rng.normal(size=(4, 2)) * 3])
        embeddings = centers[instances] + rng.normal(size=(*SIZE, 2)) * rng.uniform(0.05, 0.6, 5)[instances][..., None]
        scores = np.eye(2)[(instances > 0).astype(int)] * 20
        table = torch.from_numpy(np.concatenate([scores, embeddings], axis=2).transpose(2, 0, 1)).float()
        proposals = model.predict(table[None], [sample()])[0].pred_instances
        iou_KG = mask_iou(proposals.masks, [encode(instances == number) for number in range(1, 5)])
        assert len(iou_KG) > 8
        found['score'] += match_greedily(iou_KG, [0.5])[:, :4].sum()
        found['random'] += np.mean([match_greedily(rng.permutation(iou_KG), [0.5])[:, :4].sum() for _ in range(20)])
    recall = {name: count / 48 for name, count in found.items()}
    assert recall['score'] > recall['random'] + 0.3, recall
