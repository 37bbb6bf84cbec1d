import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.registry import MODELS

from mmseg_instancenet.models import CenterGrouping, MeanShiftGrouping, SilhouetteScorer
from mmseg_instancenet.models.postprocess import NetworkPass, average_classes, group_image
from mmseg_instancenet.structures import MapPlacement, group_statistics

NORM = dict(type='BN')


def build(head=None, **settings):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            data_preprocessor=dict(type='InstanceMapDataPreprocessor', pad_size_divisor=8),
            backbone=dict(type='UNet', base_channels=4, num_stages=4, strides=(1,) * 4, enc_num_convs=(1,) * 4,
                          dec_num_convs=(1,) * 3, downsamples=(True,) * 3, enc_dilations=(1,) * 4, dec_dilations=(1,) * 3,
                          norm_cfg=NORM),
            neck=dict(type='FineToCoarse'),
            decode_head=head
            or dict(type='EmbeddingHead', in_channels=32, in_index=3, channels=8, dilations=(1, 2), c1_in_channels=4,
                    c1_channels=4, num_classes=4, embedding_dims=3, norm_cfg=NORM,
                    loss_embedding=dict(type='DiscriminativeLoss')),
            **{'grouper': dict(type='CenterGrouping', threshold=1.2), **settings},
        )
    )  # fmt: skip


def sample(size, truth=None, **meta):
    result = DetDataSample(metainfo=dict(ori_shape=size, img_shape=size, **meta))
    if truth is not None:
        result.gt_sem_seg = PixelData(data=truth[None])
    return result


def known_network(model, table):
    """Makes the network return `table` at the pixels of its input: (C + D, H, W) of the whole image as channels of the
    input. The head's map has the input's size."""
    model.scores_and_embeddings = lambda inputs, metas, origin=(0, 0): inputs.tensor_split([4], dim=1)
    return torch.from_numpy(table).float()


def two_squares(num_classes=4, size=(24, 32)):
    """Two touching squares of class 1 and one of class 2: class scores, embeddings (3) and the true instances."""
    classes, instances = np.zeros(size, int), np.zeros(size, int)
    for k, (rows, columns, c) in enumerate(
        [(slice(4, 12), slice(4, 12), 1), (slice(4, 12), slice(12, 20), 1), (slice(14, 22), slice(10, 26), 2)], start=1
    ):
        classes[rows, columns], instances[rows, columns] = c, k
    scores = np.eye(num_classes)[classes].transpose(2, 0, 1) * 10
    embeddings = np.array([[0, 0, 0], [0, 0, 0], [6, 0, 0], [0, 6, 0]])[instances].transpose(2, 0, 1)
    return np.concatenate([scores, embeddings]), classes, instances


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == pairs.shape[1] == len(np.unique(pairs[1]))


def test_instances_of_a_known_network():
    model = build().eval()
    table, classes, instances = two_squares()
    result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), classes)
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)
    found = result.pred_instances
    order = found.bboxes[:, 0].argsort()
    assert found.bboxes[order].tolist() == [[4, 4, 12, 12], [10, 14, 26, 22], [12, 4, 20, 12]]
    assert found.labels[order].tolist() == [0, 1, 0]
    sizes = torch.tensor([64.0, 128.0, 64.0])
    assert torch.allclose(found.scores[order], sizes / (sizes + 8), atol=1e-3)


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize(('channel', 'message'), [(0, 'finite class scores'), (4, 'finite embeddings')])
def test_outputs_of_the_network_that_are_not_finite_name_the_image(value, channel, message):
    model = build().eval()
    table, _, _ = two_squares()
    good, bad = known_network(model, table), known_network(model, table)
    bad[channel, 5, 5] = value  # on an object
    samples = [sample((24, 32), img_path=name) for name in ('good.png', 'bad.png')]
    with pytest.raises(ValueError, match=rf'{message}, got NaN or infinity at .*\(image bad.png\)'):
        model.predict(torch.stack([good, bad]), samples)
    assert 'pred_instances' in samples[0] and 'pred_instances' not in samples[1]


@pytest.mark.parametrize('crop, stride', [((16, 16), (8, 8)), ((16, 24), (8, 4)), ((64, 64), (64, 64))])
def test_windows_give_the_same_instances_though_each_has_embeddings_of_its_own(crop, stride):
    model = build(test_cfg=dict(mode='slide', crop_size=crop, stride=stride)).eval()
    table, classes, instances = two_squares()
    inputs = known_network(model, table)[None]
    seen = []

    def one_pass(window, metas, origin):
        # Every pass has another embedding space: shifted and turned.
        scores, embeddings = window[:, :4], window[:, 4:]
        seen.append(window.shape[2:])
        return scores, embeddings.flip(1) * (-1) ** len(seen) + 100.0 * len(seen)

    model.scores_and_embeddings = one_pass
    result = model.predict(inputs, [sample((24, 32))])[0]
    assert all(h <= crop[0] and w <= crop[1] for h, w in seen)
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), classes)
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)


@pytest.mark.parametrize(
    ('crop', 'stride', 'sizes'),
    [(16, 8, [(16, 16), (8, 8)]), ([16, 24], 8, [(16, 24), (8, 8)]), (32, (16, 4), [(32, 32), (16, 4)])],
)
def test_an_integer_sets_both_sides_of_a_window(crop, stride, sizes):
    settings = dict(mode='slide', crop_size=crop, stride=stride, score_thr=0.25)
    starts = []
    for model in (build(test_cfg=settings), build(test_cfg=dict(mode='slide', crop_size=sizes[0], stride=sizes[1]))):
        starts.append([(origin, window.shape) for origin, window in model._windows(torch.zeros(1, 8, 40, 50))])
    assert starts[0] == starts[1] and len(starts[0]) > 1
    assert settings['crop_size'] == crop  # the config's own settings stay as they are


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(mode='slide', crop_size=(16, 16), stride=(20, 20)), 'stride 20 and crop_size 16'),
        (dict(mode='slide', crop_size=16, stride=[8, 20]), 'stride 20 and crop_size 16'),
        (dict(mode='slide', crop_size=(16, 16), stride=(0, 8)), r'test_cfg.stride as .* > 0, .* got \(0, 8\)'),
        (dict(mode='slide'), r"test_cfg.crop_size as \(height, width\) .* for mode='slide', got None"),
        (dict(mode='slide', crop_size=(16, 16)), 'test_cfg.stride as .* got None'),
        (dict(mode='slide', crop_size=16, stride=0.5), 'test_cfg.stride as .* got 0.5'),
        (dict(mode='slide', crop_size='16', stride=8), "test_cfg.crop_size as .* got '16'"),
        (dict(mode='slide', crop_size=(16, 16, 3), stride=8), r'test_cfg.crop_size as .* got \(16, 16, 3\)'),
        (dict(mode='slide', crop_size=-16, stride=8), 'test_cfg.crop_size as .* got -16'),
        (dict(classes='predicted', clases='ground_truth'), r"at most, got \['clases'\] as well"),
        (dict(score_thr=-0.1), r'score_thr as a number >= 0 \(0 keeps all instances\), got -0.1'),
        (dict(score_thr=float('nan')), 'score_thr as a number >= 0 .*got nan'),
        (dict(score_thr='0.3'), "score_thr as a number >= 0 .*got '0.3'"),
        (dict(score_thr=True), 'score_thr as a number >= 0 .*got True'),
        (dict(score_thr=None), 'score_thr as a number >= 0 .*got None'),
        (dict(classes='true'), "test_cfg.classes to be one of .*got 'true'"),
    ],
)
def test_test_cfg_is_checked_when_the_model_is_built(settings, message):
    with pytest.raises(ValueError, match=message):
        build(test_cfg=settings)


def test_flipped_views_vote_and_their_embeddings_are_not_compared():
    model = build().eval()
    table, classes, instances = two_squares()
    known_network(model, table)
    plain, flipped = table.copy(), table[:, :, ::-1].copy()
    flipped[4:] = 50 - 3 * flipped[4:]
    data = dict(
        inputs=[[torch.from_numpy(plain).float()], [torch.from_numpy(flipped).float()]],
        data_samples=[[sample((24, 32))], [sample((24, 32), flip=True, flip_direction='horizontal')]],
    )
    result = MODELS.build(dict(type='EmbeddingTTAModel', module=model)).test_step(data)[0]
    assert np.array_equal(result.pred_sem_seg.data[0].numpy(), classes)
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)


@pytest.mark.parametrize('way', ['whole', 'slide', 'tta'])
def test_a_score_cut_drops_instances_from_the_list_and_the_map(way):
    """The large square scores highest in each orientation; the others are dropped."""
    model = build(test_cfg=dict(mode='slide', crop_size=(16, 24), stride=(8, 4)) if way == 'slide' else {}).eval()
    table, _, instances = two_squares()
    inputs = known_network(model, table)
    tested = MODELS.build(dict(type='EmbeddingTTAModel', module=model)) if way == 'tta' else model

    def predict():
        if way != 'tta':
            return model.predict(inputs[None], [sample((24, 32))])[0]
        flipped = sample((24, 32), flip=True, flip_direction='horizontal')
        views = [[inputs], [inputs.flip(2)]]
        return tested.test_step(dict(inputs=views, data_samples=[[sample((24, 32))], [flipped]]))[0]

    everything = predict()
    scores = everything.pred_instances.scores
    assert len(scores) == 3 and int(everything.pred_instance_map.data.max()) == 3
    low, high = scores.sort().values[1:].tolist()
    assert low + 1e-3 < high
    model.test_cfg['score_thr'] = (low + high) / 2
    result = predict()
    assert result.pred_instances.scores.tolist() == [high]
    assert result.pred_instances.bboxes.tolist() == [[10, 14, 26, 22]] and result.pred_instances.labels.tolist() == [1]
    assert np.array_equal(result.pred_instance_map.data[0].numpy(), instances == 3)
    assert torch.equal(result.pred_sem_seg.data, everything.pred_sem_seg.data)


def test_class_scores_of_views_are_averaged():
    torch.manual_seed(0)
    size = (6, 8)
    a, b = torch.randn(3, *size), torch.randn(3, *size)
    whole = MapPlacement(size, size, size)
    turned = MapPlacement(size, size, size, flipped=(False, True))
    views = [[NetworkPass(a, a, whole)], [NetworkPass(b.flip(2), b, turned)]]
    expected = ((a.log_softmax(0) + b.log_softmax(0)) / 2).softmax(0)
    classes, probability = average_classes(views, size)
    assert torch.equal(classes, expected.argmax(0))
    assert torch.allclose(probability, expected.amax(0), atol=1e-5)


def test_ground_truth_classes():
    model = build(test_cfg=dict(classes='ground_truth')).eval()
    table, _, instances = two_squares()
    truth = torch.from_numpy(np.where(instances == 1, 3, np.where(instances == 2, 255, 0)))
    result = model.predict(known_network(model, table)[None], [sample((24, 32), truth)])[0]
    assert result.pred_instances.labels.tolist() == [2]
    assert result.pred_instances.bboxes.tolist() == [[4, 4, 12, 12]]
    with pytest.raises(ValueError, match='needs gt_sem_seg'):
        model.predict(known_network(model, table)[None], [sample((24, 32))])


def test_batches_of_unequal_sizes_equal_single_images():
    model = build().eval()
    torch.manual_seed(1)
    images = [torch.randint(0, 255, (3, 40, 24)).byte(), torch.randint(0, 255, (3, 16, 48)).byte()]
    originals = [(80, 48), (16, 48)]

    def run(indices):
        samples = [
            DetDataSample(metainfo=dict(ori_shape=originals[i], img_shape=tuple(images[i].shape[1:]))) for i in indices
        ]
        return model.test_step(dict(inputs=[images[i] for i in indices], data_samples=samples))

    together = run([0, 1])
    for index in (0, 1):
        assert tuple(together[index].pred_sem_seg.data.shape[1:]) == originals[index]
    # The padding reaches into the image through the convolutions, so here is a network that cannot look around.
    offsets = torch.tensor([0.0, 0.3, 0.6])[:, None, None]  # no two classes alike, or rounding would decide
    model.scores_and_embeddings = lambda inputs, metas, origin: (
        torch.cat([inputs + offsets, inputs[:, :1] * 0.5 + 60.1], dim=1),
        inputs / 50,
    )
    together = run([0, 1])
    for index in (0, 1):
        alone = run([index])[0]
        assert torch.equal(alone.pred_sem_seg.data, together[index].pred_sem_seg.data)
        assert torch.equal(alone.pred_instance_map.data, together[index].pred_instance_map.data)
        torch.testing.assert_close(
            alone.pred_instances.scores, together[index].pred_instances.scores, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize('size', [(1, 400), (400, 1), (8, 8)])
def test_thin_and_tiny_images(size):
    model = build().eval()
    inputs = torch.randint(0, 255, (3, *size)).byte()
    result = model.test_step(dict(inputs=[inputs], data_samples=[sample(size)]))[0]
    assert tuple(result.pred_sem_seg.data.shape) == (1, *size)
    assert result.pred_instances.bboxes.shape == (len(result.pred_instances), 4)
    assert all(mask['size'] == list(size) for mask in result.pred_instances.masks)


def test_an_image_without_instances():
    model = build().eval()
    table, _, _ = two_squares()
    table[0] += 100
    found = model.predict(known_network(model, table)[None], [sample((24, 32))])[0].pred_instances
    assert len(found) == 0 and found.masks == [] and found.bboxes.shape == (0, 4)


def test_training_without_instances_touches_every_parameter():
    model = build().train()
    samples = []
    for _ in range(2):
        one = sample((32, 32), torch.zeros(32, 32, dtype=torch.long))
        one.set_field(PixelData(data=torch.zeros(1, 32, 32, dtype=torch.long)), 'gt_instance_map', dtype=PixelData)
        samples.append(one)
    losses = model.loss(torch.randn(2, 3, 32, 32), samples)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    'head',
    [
        dict(type='EmbeddingFCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, num_classes=4, embedding_dims=3,
             norm_cfg=NORM, loss_embedding=dict(type='DiscriminativeLoss')),
        dict(type='EmbeddingUPerHead', in_channels=[4, 8, 16, 32], in_index=[0, 1, 2, 3], channels=8, pool_scales=(1, 2),
             num_classes=4, embedding_dims=3, norm_cfg=NORM, loss_embedding=dict(type='DiscriminativeLoss')),
    ],
)  # fmt: skip
def test_other_heads_train_and_test(head):
    model = build(head).train()
    table, classes, instances = two_squares(size=(32, 32))
    samples = []
    for _ in range(2):
        one = sample((32, 32), torch.from_numpy(classes))
        one.set_field(PixelData(data=torch.from_numpy(instances)[None]), 'gt_instance_map', dtype=PixelData)
        samples.append(one)
    inputs = torch.randn(2, 3, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    history = []
    for _ in range(15):
        total, _ = model.parse_losses(model.loss(inputs, samples))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total))
    assert history[-1] < 0.7 * history[0]
    result = model.eval().predict(inputs, [sample((32, 32)), sample((32, 32))])
    assert tuple(result[1].pred_instance_map.data.shape) == (1, 32, 32)


def test_heads_without_embeddings_and_unknown_settings_are_refused():
    plain = dict(type='FCNHead', in_channels=4, in_index=0, channels=8, num_classes=4, norm_cfg=NORM)
    with pytest.raises(ValueError, match=r'embedding=dict\(dims=.., loss=..\), or a decode head .* got neither'):
        build(plain)
    with pytest.raises(ValueError, match='got both'):
        build(embedding=dict(dims=3))
    with pytest.raises(ValueError, match="test_cfg.classes.*'truth'"):
        build(test_cfg=dict(classes='truth'))


def test_margins_are_checked_when_the_model_is_built():
    with pytest.warns(UserWarning, match='threshold 1.2 lies outside'):
        build(dict(type='EmbeddingFCNHead', in_channels=4, in_index=0, channels=8, num_classes=4, norm_cfg=NORM,
                   loss_embedding=dict(type='DiscriminativeLoss', push_margin=0.75)))  # fmt: skip


def group_classes(network_pass, class_HW, grouper, scorer):
    return group_image([[network_pass]], class_HW, torch.ones(class_HW.shape), 10, grouper, scorer)


def test_two_touching_squares_stay_two_at_a_quarter_of_the_resolution():
    table, classes, instances = two_squares(size=(64, 64))
    classes, instances = (np.kron(x[:16, :20], np.ones((4, 4), int)) for x in (classes, instances))
    quarter = np.ascontiguousarray(table[:, :16, :20])
    placement = MapPlacement(classes.shape, classes.shape, classes.shape)
    network_pass = NetworkPass(*map(torch.from_numpy, (quarter[:4], quarter[4:])), placement)
    groups = group_classes(network_pass, torch.from_numpy(classes), CenterGrouping(), SilhouetteScorer())
    assert len(groups.score_K) == len(np.unique(instances)) - 1
    assert same_partition(groups.labels_HW.numpy(), instances)


BACKGROUND_GROUPERS = [
    dict(type='MeanShiftGrouping', class_agnostic=True, background_groups=True),
    dict(type='CenterGrouping', threshold=0.5, class_agnostic=True, background_groups=True),
]


def background_table(wrong_classes=True):
    """Directions that differ for each object and for the background, and a class map that errs by some pixels."""
    table, classes, instances = two_squares()
    noise = 0.02 * np.random.default_rng(0).normal(size=(3, 24, 32))
    table[4:] = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])[instances].transpose(2, 0, 1) + noise
    if wrong_classes:
        # Of the first object a corner is taken for background, of the third one for class 1; background beside it for class 2.
        for rows, columns, class_ in ((slice(4, 7), slice(4, 9), 0), (14, slice(10, 14), 1), (slice(20, 24), 8, 2)):
            table[:4, rows, columns] = 0
            table[class_, rows, columns] = 10
    return table, classes, instances


@pytest.mark.parametrize('grouper', BACKGROUND_GROUPERS, ids=lambda grouper: grouper['type'])
def test_groups_of_the_background_are_dropped_and_objects_end_where_the_embedding_changes(grouper):
    model = build().eval()
    model.grouper = MODELS.build(grouper)
    table, classes, instances = background_table()
    result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
    assert not np.array_equal(result.pred_sem_seg.data[0].numpy(), classes)
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)
    found = result.pred_instances
    order = found.bboxes[:, 0].argsort()
    assert found.bboxes[order].tolist() == [[4, 4, 12, 12], [10, 14, 26, 22], [12, 4, 20, 12]]
    assert found.labels[order].tolist() == [0, 1, 0]
    # Pixels that the class map takes for something else count zero in the score.
    embeddings, labels = model.grouper.prepare(torch.from_numpy(table[4:])), torch.from_numpy(instances + 1)
    of_object = model.group_scorer(embeddings, labels, group_statistics(embeddings, labels, torch.ones_like(labels)))[
        [1, 3, 2]
    ]
    agreement = torch.tensor([49 / 64, 124 / 128, 1.0])
    torch.testing.assert_close(found.scores[order], of_object * agreement, rtol=1e-3, atol=1e-3)
    # Within the class map alone the errors would be the objects'.
    model.grouper = MODELS.build({**grouper, 'background_groups': False})
    result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
    assert not result.pred_instance_map.data[0, 4:7, 4:9].any()


@pytest.mark.parametrize('grouper', BACKGROUND_GROUPERS, ids=lambda grouper: grouper['type'])
def test_background_groups_of_windows_and_views(grouper):
    table, _, instances = background_table()
    model = build(test_cfg=dict(mode='slide', crop_size=(16, 24), stride=(8, 4))).eval()
    model.grouper = MODELS.build(grouper)
    result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)
    model = build().eval()
    model.grouper = MODELS.build(grouper)
    known_network(model, table)
    flipped = np.concatenate([table[:4], -table[4:]])[:, :, ::-1].copy()
    data = dict(
        inputs=[[torch.from_numpy(table).float()], [torch.from_numpy(flipped).float()]],
        data_samples=[[sample((24, 32))], [sample((24, 32), flip=True, flip_direction='horizontal')]],
    )
    result = MODELS.build(dict(type='EmbeddingTTAModel', module=model)).test_step(data)[0]
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)


def watch(grouper, monkeypatch):
    """Arguments and result of each call of the grouper."""
    seen, group_map = [], grouper.group_map

    def watching(embeddings_Dhw, region_hw):
        seen.append((embeddings_Dhw, region_hw, group_map(embeddings_Dhw, region_hw)))
        return seen[-1][-1]

    monkeypatch.setattr(grouper, 'group_map', watching)
    return seen


def test_padding_is_no_background(monkeypatch):
    """Embeddings of the padding lie between those of two objects: if they entered, the two would be one group."""
    model = build().eval()
    model.grouper = MeanShiftGrouping(class_agnostic=True, background_groups=True, max_loops=1)
    table, _, instances = background_table()
    padded = np.zeros((7, 32, 40))
    padded[0] = 10
    angle = np.linspace(0, np.pi / 2, 32 * 40).reshape(32, 40)
    padded[4:] = np.stack([0 * angle, np.cos(angle), np.sin(angle)])
    padded[:, :24, :32] = table
    seen = watch(model.grouper, monkeypatch)
    result = model.predict(known_network(model, padded)[None], [sample((24, 32))])[0]
    _, region, labels = seen[0]
    outside = torch.ones(32, 40, dtype=torch.bool)
    outside[:24, :32] = False
    assert torch.equal(region == 0, outside)
    assert torch.equal(labels == 0, outside)
    assert same_partition(result.pred_instance_map.data[0].numpy(), instances)
    alone = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
    assert torch.equal(alone.pred_instance_map.data, result.pred_instance_map.data)
    torch.testing.assert_close(alone.pred_instances.scores, result.pred_instances.scores)


def test_the_commonest_class_of_a_group_decides_whether_it_is_background():
    instances = np.repeat([1, 2, 3, 4], [10, 9, 7, 3])[None]
    classes = np.array([[0] * 4 + [1] * 3 + [2] * 3 + [0] * 4 + [2] * 5 + [0] * 7 + [1] * 3])
    placement = MapPlacement((1, 29), (1, 29), (1, 29))
    embeddings = torch.eye(5)[torch.from_numpy(instances)].movedim(2, 0)
    network_pass = NetworkPass(torch.zeros(3, 1, 29), embeddings, placement)
    grouper = MeanShiftGrouping(class_agnostic=True, background_groups=True)
    groups = group_classes(network_pass, torch.from_numpy(classes), grouper, SilhouetteScorer(half_size=8))
    assert groups.labels_HW[0].tolist() == [0] * 10 + [1] * 9 + [0] * 7 + [2] * 3
    torch.testing.assert_close(groups.score_K, torch.tensor([9 / 17, 3 / 11]))


def test_an_image_of_background_alone_has_no_instance():
    for grouper in BACKGROUND_GROUPERS:
        model = build().eval()
        model.grouper = MODELS.build(grouper)
        table, _, _ = background_table()
        table[0] += 100
        result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
        assert len(result.pred_instances) == 0 and not result.pred_instance_map.data.any()
        truth = torch.full((24, 32), 255)
        model.test_cfg['classes'] = 'ground_truth'
        result = model.predict(known_network(model, table)[None], [sample((24, 32), truth)])[0]
        assert len(result.pred_instances) == 0


def recurrent_head(concentration):
    grouping = dict(type='MeanShiftGrouping', concentration=concentration, class_agnostic=True)
    loss = dict(type='RecurrentLoss', loss=dict(type='SphericalPairLoss', margin=0.5), grouping=grouping, loops=2)
    head = dict(type='EmbeddingFCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, num_classes=4, embedding_dims=3,
                norm_cfg=NORM, unit_length=True, loss_embedding=loss)  # fmt: skip
    return head, grouping


def test_mean_shift_trains_and_tests():
    head, grouping = recurrent_head(100)
    torch.manual_seed(0)
    model = build(head).train()
    model.grouper = MODELS.build(grouping)
    table, classes, instances = two_squares(size=(32, 32))
    one = sample((32, 32), torch.from_numpy(classes))
    one.set_field(PixelData(data=torch.from_numpy(instances)[None]), 'gt_instance_map', dtype=PixelData)
    inputs = torch.from_numpy(np.concatenate([table[4:5], table[5:6], np.indices((32, 32))[:1] / 8])).float()[None]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    history = []
    for _ in range(15):
        losses = model.loss(inputs, [one])
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(losses['decode.loss_embedding']))
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.decode_head.parameters())
    assert history[-1] < 0.7 * history[0]
    result = model.eval().predict(inputs, [sample((32, 32))])[0]
    assert tuple(result.pred_instance_map.data.shape) == (1, 32, 32)


def test_one_option_sets_the_grouping_of_training_and_testing():
    head, grouping = recurrent_head(100)
    del head['loss_embedding']['grouping']
    model = build(head, grouper=dict(grouping, concentration=50))
    loops = model.decode_head.loss_embedding.grouping
    assert loops is model.grouper and loops.kernel_settings.concentration == 50
    assert not any('grouping' in name or 'grouper' in name for name in model.state_dict())


def test_the_grouper_gets_the_margins_of_a_recurrent_loss():
    head, grouping = recurrent_head(6)
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            backbone=dict(type='UNet', base_channels=4, num_stages=4, strides=(1,) * 4, enc_num_convs=(1,) * 4,
                          dec_num_convs=(1,) * 3, downsamples=(True,) * 3, enc_dilations=(1,) * 4, dec_dilations=(1,) * 3,
                          norm_cfg=NORM),
            neck=dict(type='FineToCoarse'),
            decode_head=head,
            grouper=dict(grouping, min_size=10),
        )
    ).eval()  # fmt: skip
    table, _, _ = two_squares()
    table[4:] += np.random.default_rng(0).normal(size=(3, 24, 32))
    with pytest.warns(UserWarning, match=r'MeanShiftGrouping: at concentration 6 .*apart by 1 \(cosine\)'):
        model.predict(known_network(model, table)[None], [sample((24, 32))])


def test_the_box_of_the_embeddings_is_the_part_of_the_image_of_the_first_pass():
    table, _, _ = two_squares()
    for settings, box in (
        ({}, (0, 0, 24, 32)),
        (dict(mode='slide', crop_size=(16, 24), stride=(8, 4)), (0, 0, 16, 24)),
    ):
        model = build(test_cfg=settings).eval()
        result = model.predict(known_network(model, table)[None], [sample((24, 32))])[0]
        assert result.pred_embeddings.image_box == box
    # Flipped, the first window of the input is the right end of the image.
    flipped = sample((24, 32), flip=True, flip_direction='horizontal')
    result = model.predict(known_network(model, table)[None], [flipped])[0]
    assert result.pred_embeddings.image_box == (0, 8, 16, 32)
