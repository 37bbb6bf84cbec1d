"""An embedding branch for any decode head of mmseg, by four lines of a config."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from mmseg.models.decode_heads import DAHead, DepthwiseSeparableASPPHead, FCNHead, SegmenterMaskTransformerHead
from mmseg.registry import MODELS

from mmseg_instancenet.models.decode_heads.dense_features import find_features, listen, resizes_scores_only, score_kind
from mmseg_instancenet.models.postprocess.passes import log_probabilities

NORM = dict(type='BN')
LOSS = dict(type='DiscriminativeLoss')
ASPP = dict(in_channels=32, in_index=3, channels=8, dilations=(1, 2), c1_in_channels=4, c1_channels=4, num_classes=4,
            norm_cfg=NORM)  # fmt: skip
FCN = dict(type='FCNHead', in_channels=4, in_index=0, channels=8, num_convs=1, num_classes=4, norm_cfg=NORM)


def build(decode_head, seed=0, **settings):
    torch.manual_seed(seed)
    unet = dict(type='UNet', base_channels=4, num_stages=4, strides=(1,) * 4, enc_num_convs=(1,) * 4, dec_num_convs=(1,) * 3,
                downsamples=(True,) * 3, enc_dilations=(1,) * 4, dec_dilations=(1,) * 3, norm_cfg=NORM)  # fmt: skip
    model = MODELS.build(
        dict(
            type='EmbeddingSegmentor',
            data_preprocessor=dict(type='InstanceMapDataPreprocessor', pad_size_divisor=8),
            backbone=unet,
            neck=dict(type='FineToCoarse'),
            decode_head=decode_head,
            grouper=dict(type='CenterGrouping', threshold=1.2),
            **settings,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def samples(size=(32, 40), **maps):
    result = []
    for first in (3, 8):
        ids = torch.zeros(1, *size, dtype=torch.long)
        ids[:, first : first + 9, 4:16], ids[:, 12:30, 20:33] = 1, 7
        one = DetDataSample(metainfo=dict(ori_shape=size, img_shape=size))
        one.gt_instance_map, one.gt_sem_seg = PixelData(data=ids), PixelData(data=ids.clamp(max=2))
        for name, data in maps.items():
            one.set_field(PixelData(data=data), name, dtype=PixelData)
        result.append(one)
    return result


def inputs(size=(32, 40)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    'branch',
    [
        {},
        {'coordinates': True},
        {'hidden_channels': 5, 'unit_length': True, 'coordinates': True},
        {'pixels_per_unit': 4.0},
    ],
)
@pytest.mark.parametrize('dropout', [0, 0.5])
def test_the_branch_beside_mmsegs_head_is_that_of_embedding_head(branch, dropout):
    """Losses, gradients, predictions: bit for bit. Checkpoints of either load, strictly."""
    own = build(
        dict(type='EmbeddingHead', embedding_dims=4, loss_embedding=LOSS, dropout_ratio=dropout, **branch, **ASPP)
    )
    plain = dict(type='DepthwiseSeparableASPPHead', dropout_ratio=dropout, **ASPP)
    beside = build(plain, seed=1, embedding=dict(dims=4, loss=LOSS, **branch))
    assert type(beside.decode_head) is DepthwiseSeparableASPPHead
    beside.load_state_dict(own.state_dict(), strict=True)
    own.load_state_dict(beside.state_dict(), strict=True)
    results = []
    for model in (own, beside):
        model.train()
        torch.manual_seed(3)  # dropout
        losses = model.loss(inputs(), samples())
        model.parse_losses(losses)[0].backward()
        found = model.eval().predict(inputs(), samples())
        results.append((losses, {name: p.grad for name, p in model.named_parameters()}, found))
    (losses, gradients, found), (losses_2, gradients_2, found_2) = results
    assert set(losses) == set(losses_2) and 'decode.loss_embedding' in losses
    assert all(torch.equal(losses[name], losses_2[name]) for name in losses)
    assert all(torch.equal(gradients[name], gradients_2[name]) for name in gradients)
    for one, other in zip(found, found_2, strict=True):
        assert torch.equal(one.pred_instance_map.data, other.pred_instance_map.data)
        assert torch.equal(one.pred_embeddings.data, other.pred_embeddings.data)
        assert torch.equal(one.pred_instances.scores, other.pred_instances.scores)


def test_the_head_is_mmsegs_to_the_last_bit():
    """Its losses, its class map and its checkpoint are those of the same head in mmseg's own segmentor."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS)).eval()
    config = dict(type='EncoderDecoder', backbone=dict(type='mmseg.UNet'), decode_head=FCN, test_cfg=dict(mode='whole'))
    config['backbone'] = dict(type='UNet', base_channels=4, num_stages=4, strides=(1,) * 4, enc_num_convs=(1,) * 4,
                              dec_num_convs=(1,) * 3, downsamples=(True,) * 3, enc_dilations=(1,) * 4, dec_dilations=(1,) * 3,
                              norm_cfg=NORM)  # fmt: skip
    plain = MODELS.build(dict(config, neck=dict(type='FineToCoarse'))).eval()
    missing, extra = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert {name.rsplit('.', 1)[0] for name in extra} == {'decode_head.conv_embedding', 'instance_scorer'}
    losses, plain_losses = model.loss(inputs(), samples()), plain.loss(inputs(), samples())
    assert all(torch.equal(losses[name], plain_losses[name]) for name in plain_losses)
    model.test_cfg['mode'] = 'whole'
    expected = plain.encode_decode(inputs(), [dict(img_shape=(32, 40))] * 2).argmax(1)
    for found, class_map in zip(model.predict(inputs(), samples()), expected, strict=True):
        assert torch.equal(found.pred_sem_seg.data[0], class_map)


def test_mode_tensor_is_the_whole_network():
    """Class scores as mmseg's segmentor returns them in this mode, and the embeddings, with the inputs alone."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS)).eval()
    entered = []
    model.decode_head.conv_seg.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    scores_NChw, embeddings_NDhw = model(inputs(), mode='tensor')
    branch = model.decode_head.conv_embedding
    assert torch.equal(scores_NChw, model.decode_head(model.extract_feat(inputs())))
    torch.testing.assert_close(embeddings_NDhw, F.conv2d(entered[0], branch.weight, branch.bias))
    for one, sample in zip(embeddings_NDhw, model.predict(inputs(), samples()), strict=True):
        assert torch.equal(sample.pred_embeddings.data, one)


def test_a_copy_of_the_model_uses_its_own_features():
    """The moving average of the weights is a copy, and a model may be pickled."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS)).eval()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.nn.init.zeros_(other.decode_head.conv_embedding.weight)
        torch.nn.init.ones_(other.decode_head.conv_embedding.bias)
        assert torch.equal(other.scores_and_embeddings(inputs(), [{}] * 2)[1], torch.ones(2, 3, 32, 40))
        assert model.scores_and_embeddings(inputs(), [{}] * 2)[1].std() > 0.1


def test_features_by_name():
    model = build(FCN, embedding=dict(dims=3, loss=LOSS, features='convs.0.conv')).eval()
    seen = []
    model.decode_head.convs[0].conv.register_forward_hook(lambda _, __, value: seen.append(value))
    embeddings = model.scores_and_embeddings(inputs(), [{}] * 2)[1]
    weight, bias = model.decode_head.conv_embedding.weight[:, :, 0, 0], model.decode_head.conv_embedding.bias
    expected = torch.einsum('dc,nchw->ndhw', weight, seen[0]) + bias[:, None, None]
    torch.testing.assert_close(embeddings, expected)
    with pytest.raises(ValueError, match=r"FCNHead has no module 'bottleneck'; it has .*conv_seg, .*convs.0"):
        build(FCN, embedding=dict(dims=3, features='bottleneck'))
    with pytest.raises(ValueError, match=r"ends in a layer with channels, got 'dropout', a Dropout2d"):
        build(FCN, embedding=dict(dims=3, features='dropout'))
    with pytest.raises(RuntimeError, match='did not use its Linear'):
        unused = build(FCN, embedding=dict(dims=3, loss=LOSS))
        unused.decode_head.spare = torch.nn.Linear(2, 8)
        unused.branch.source = find_features(unused.decode_head, 'spare')
        unused.loss(inputs(), samples())


CASCADE = [
    dict(type='FCNHead', in_channels=[4, 8], in_index=(0, 1), input_transform='resize_concat', channels=6, num_convs=1,
         num_classes=4, norm_cfg=NORM),
    dict(type='OCRHead', in_channels=[4, 8], in_index=(0, 1), input_transform='resize_concat', channels=8, ocr_channels=4,
         num_classes=4, norm_cfg=NORM),
]  # fmt: skip
POINTS = [
    dict(type='FPNHead', in_channels=[4, 8], in_index=[0, 1], feature_strides=[1, 2], channels=6, num_classes=4, norm_cfg=NORM),
    dict(type='PointHead', in_channels=[4], in_index=[0], channels=8, num_fcs=1, coarse_pred_each_layer=True, num_classes=4),
]  # fmt: skip


@pytest.mark.parametrize(
    ('heads', 'embedded', 'settings'),
    [
        (CASCADE, 1, {}),
        (
            POINTS,
            0,
            dict(
                train_cfg=dict(num_points=64, oversample_ratio=3, importance_sample_ratio=0.75),
                test_cfg=dict(mode='whole', subdivision_steps=1, subdivision_num_points=64, scale_factor=2),
            ),
        ),
    ],
)
def test_cascades(heads, embedded, settings):
    """The last head that has a map of all pixels gets the branch; scores are those of the last head."""
    settings = {name: ConfigDict(value) for name, value in settings.items()}
    model = build(copy.deepcopy(heads), num_stages=2, embedding=dict(dims=3, loss=LOSS), **settings).train()
    assert [hasattr(head, 'conv_embedding') for head in model.decode_head] == [index == embedded for index in (0, 1)]
    losses = model.loss(inputs(), samples())
    assert {'decode_0.loss_ce', 'decode.loss_embedding'} < set(losses)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    model.test_cfg['classes'] = 'ground_truth'
    result = model.predict(inputs(), samples())[0]
    assert len(result.pred_instances) > 0
    scores, embeddings = model.scores_and_embeddings(inputs(), [{}] * 2)
    torch.manual_seed(0)
    expected = model.encode_decode(inputs(), [dict(img_shape=torch.Size((32, 40)))] * 2)
    assert scores.shape == expected.shape == (2, 4, 32, 40) and embeddings.shape[:2] == (2, 3)
    torch.testing.assert_close(scores, expected)


def test_where_the_features_are():
    common = dict(channels=6, num_classes=4)
    assert find_features(FCNHead(in_channels=5, **common)).channels == 6
    danet = DAHead(in_channels=5, pam_channels=2, **common).train()
    source = find_features(danet)
    assert source.module is danet.conv_seg and source.before is danet.dropout
    # Other convolutions of classes pass through the same dropout, before it.
    entered = []
    danet.dropout.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0]))
    with listen(source) as seen:
        danet([torch.randn(1, 5, 6, 6)])
    assert len(entered) == 3 and seen[0] is entered[2]
    segmenter = SegmenterMaskTransformerHead(in_channels=6, num_layers=1, num_heads=2, embed_dims=6, **common)
    source = find_features(segmenter)
    assert (source.end, source.channels, source.index) == ('inputs', 6, -1)
    maps = [torch.randn(1, 6, 4, 4), torch.randn(1, 6, 4, 4)]
    with listen(source) as seen:
        segmenter.forward(maps)
    assert seen[0] is maps[-1]
    assert segmenter.forward.__func__ is SegmenterMaskTransformerHead.forward
    with pytest.raises(ValueError, match='Linear has neither a conv_seg nor a pixel decoder'):
        find_features(torch.nn.Linear(2, 2))


def test_kind_of_scores():
    def fcn(loss):
        return FCNHead(in_channels=5, channels=6, num_classes=4, loss_decode=loss)

    cross_entropy, sigmoid = dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss', use_sigmoid=True)
    assert score_kind(fcn(cross_entropy)) == 'logits'
    assert score_kind(fcn(sigmoid)) == 'sigmoid'
    assert (
        score_kind(fcn([cross_entropy, dict(type='DiceLoss')])) == 'logits'
    )  # mmseg's Dice has use_sigmoid by default
    assert score_kind(fcn([sigmoid, dict(type='FocalLoss')])) == 'sigmoid'
    assert resizes_scores_only(fcn(cross_entropy))


@pytest.mark.parametrize(
    ('kind', 'certain', 'expected'),
    [('logits', [-9.0, 9.0, -9.0], 1.0), ('sigmoid', [-9.0, 9.0, -9.0], 1.0), ('probabilities', [0.0, 1.3, 0.2], 1.0)],
)
def test_a_certain_head_gives_a_certain_score(kind, certain, expected):
    """Two objects of class 1; a head with queries would get a softmax of its probabilities, .49 here, .017 of 150 classes."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS)).eval()
    model.score_kind = kind
    size = (32, 40)
    scores = torch.tensor(certain)[:, None, None].expand(3, *size).clone()
    embeddings = torch.zeros(3, *size)
    embeddings[:, :, 20:] = 9.0
    model.scores_and_embeddings = lambda *_: (scores[None], embeddings[None])
    found = model.predict(inputs()[:1], samples()[:1])[0].pred_instances
    assert len(found) == 2
    silhouette = 640 / (640 + 8)
    torch.testing.assert_close(found.scores, torch.full((2,), expected * silhouette), atol=2e-3, rtol=0)


def test_log_probabilities():
    x = torch.tensor([[0.5, -2.0], [1.5, 0.0], [0.1, 3.0]])
    torch.testing.assert_close(log_probabilities(x, 'logits').exp(), F.softmax(x, 0))
    torch.testing.assert_close(log_probabilities(x, 'sigmoid').exp(), torch.sigmoid(x))
    torch.testing.assert_close(log_probabilities(x.abs() / 4, 'probabilities').exp(), x.abs() / 4)
    assert torch.isfinite(log_probabilities(torch.zeros(2), 'probabilities')).all()


def test_scores_of_another_size_than_the_embeddings():
    """A cascade refines its scores to the size of the input; embeddings stay on the head's map."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS)).eval()
    classes = torch.zeros(32, 40, dtype=torch.long)
    classes[8:24, 8:32] = 2
    scores = F.one_hot(classes, 4).permute(2, 0, 1)[None].float() * 20
    embeddings = torch.zeros(1, 3, 8, 10)
    embeddings[..., 5:] = 9.0
    model.scores_and_embeddings = lambda *_: (scores, embeddings)
    result = model.predict(inputs()[:1], samples()[:1])[0]
    assert torch.equal(result.pred_sem_seg.data[0], classes)
    expected = classes.clamp(max=1)
    expected[:, 20:] *= 2
    assert torch.equal(result.pred_instance_map.data[0] > 0, expected > 0)
    left, right = (result.pred_instance_map.data[0][expected == k].unique() for k in (1, 2))
    assert len(left) == len(right) == 1 and left != right


def test_missing_loss_and_maps():
    with pytest.raises(ValueError, match=r'no loss to train with.*loss=dict\(..\) to embedding'):
        build(FCN, embedding=dict(dims=3)).loss(inputs(), samples())
    without = samples()
    for one in without:
        del one.gt_instance_map
    with pytest.raises(ValueError, match='lack gt_instance_map; make them with'):
        build(FCN, embedding=dict(dims=3, loss=LOSS)).loss(inputs(), without)


@pytest.mark.parametrize('own', [False, True])
def test_maps_of_another_size_than_the_input_stop_the_training(own):
    """mmseg's preprocessor pads the class map and leaves the instance map, which would be stretched over the padding."""
    head = dict(FCN, type='EmbeddingFCNHead', embedding_dims=3, loss_embedding=LOSS) if own else FCN
    model = build(head, **({} if own else dict(embedding=dict(dims=3, loss=LOSS))))
    short = samples()
    for one in short:
        one.gt_sem_seg = PixelData(data=F.pad(one.gt_sem_seg.data, (0, 8), value=255))
    with pytest.raises(
        ValueError, match=r"size of the input, got \{'gt_sem_seg': \(32, 48\), 'gt_instance_map': \(32, 40\)"
    ):
        model.loss(inputs((32, 48)), short)
    for one in short:
        one.gt_instance_map = PixelData(data=F.pad(one.gt_instance_map.data, (0, 8), value=-1))
        one.set_metainfo(dict(batch_input_shape=(32, 48)))
    model.loss(inputs((32, 48)), short)
    short[1].set_metainfo(dict(batch_input_shape=(32, 64)))
    with pytest.raises(ValueError, match=r"'the input': \(32, 64\)"):
        model.loss(inputs((32, 48)), short)


def test_initial_weights_of_the_branch_are_xaviers():
    model = build(FCN, embedding=dict(dims=40, loss=LOSS))
    model.init_weights()
    weight = model.decode_head.conv_embedding.weight
    bound = (6 / (8 + 40)) ** 0.5
    assert 0.95 * bound < weight.abs().max() <= bound
    assert not model.decode_head.conv_embedding.bias.any()


def test_the_first_iteration_checks_the_classes():
    """Also in configs of mmseg, which have no ClassCountHook."""
    model = build(FCN, embedding=dict(dims=3, loss=LOSS), auxiliary_head=dict(FCN, num_classes=19))
    hub = MessageHub.get_current_instance()
    hub.update_info('dataset_meta', {'classes': ('cat', 'dog', 'cow')})
    hub.update_info('loop_stage', 'train')
    try:
        with pytest.raises(
            ValueError, match=r'auxiliary_head has num_classes=19, but the data have 3 classes: expected'
        ):
            model.loss(inputs(), samples())
    finally:
        hub.pop_info('dataset_meta')
        hub.pop_info('loop_stage')
    model = build(dict(FCN, num_classes=2), embedding=dict(dims=3, loss=LOSS))
    with pytest.raises(ValueError, match=r'values below num_classes=2 in gt_sem_seg .* got 2'):
        model.loss(inputs(), samples())


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
@pytest.mark.parametrize('name', ['IoUMetric', 'mmseg.IoUMetric', 'mmseg.evaluation.metrics.iou_metric.IoUMetric'])
def test_mmsegs_iou_metric_is_refused_where_there_is_a_background(stage, name):
    """Also in configs of mmseg, which have no ClassCountHook; without a background it is right."""
    runs = {
        background: build(FCN, embedding=dict(dims=3, loss=LOSS), background=background) for background in (True, False)
    }

    def run(model):
        return model.loss(inputs(), samples()) if stage == 'train' else model.eval().predict(inputs(), samples())

    hub = MessageHub.get_current_instance()
    hub.update_info('cfg', f"val_evaluator = dict(iou_metrics=['mIoU'], type='{name}')")
    run(runs[True])  # outside a run of MMEngine's the config is that of an earlier one
    hub.update_info('loop_stage', stage)
    try:
        run(runs[False])
        runs[True]._classes_checked = False
        with pytest.raises(ValueError, match='expected ForegroundIoUMetric in val_evaluator'):
            run(runs[True])
        hub.update_info('cfg', "val_evaluator = dict(type='ForegroundIoUMetric')")
        run(runs[True])
    finally:
        hub.pop_info('cfg')
        hub.pop_info('loop_stage')
