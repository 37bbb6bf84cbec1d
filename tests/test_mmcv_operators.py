"""mmcv without compiled operators: imports, the operators that torchvision computes, and the error of all others."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import REPOSITORY, run_program

from mmseg_instancenet import mmcv_operators
from mmseg_instancenet.mmcv_operators import provide_operators


def compiled() -> bool:
    spec = importlib.util.find_spec(mmcv_operators.EXTENSION)
    return not isinstance(spec.loader, mmcv_operators._OperatorFinder)


needs_stand_in = pytest.mark.skipif(compiled(), reason='mmcv has compiled operators here: the stand-in is not used')
needs_compiled = pytest.mark.skipif(
    not compiled(), reason='compares with the compiled operators of mmcv, and mmcv-lite has none'
)


def python(program: str) -> subprocess.CompletedProcess:
    """Runs a program in a process of its own, in which nothing is imported yet."""
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True)


def printed(program: str) -> str:
    process = python(program)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


PROGRAMS = [('-m', f'benchmarks.{name}') for name in ('__main__', 'latency', 'training', 'write_embeddings')]
PROGRAMS += [(path,) for path in sorted(REPOSITORY.glob('tools/**/*.py'))]


def imported_before_ours() -> list[str]:
    """The import statements for modules of OpenMMLab that stand above those of this package, in any of the tools."""
    found = ['import mmcv, mmdet, mmseg, mmengine.runner']
    for path in REPOSITORY.glob('tools/**/*.py'):
        for node in ast.parse(path.read_text()).body:
            text = ast.unparse(node)
            if re.match(r'(from|import) mmseg_instancenet\b', text):
                break
            if re.match(r'(from|import) mm(cv|det|seg)\b', text):
                found.append(text)
    return found


@pytest.mark.parametrize('before', [[], imported_before_ours()], ids=['ours first', 'ours last'])
def test_mmdet_and_mmseg_import(before):
    ours = 'import mmseg_instancenet, mmcv.ops, mmdet.models, mmdet.apis, mmseg.models, mmseg.apis'
    program = '\n'.join([*before, ours, 'print("done")'])
    assert printed(program).endswith('done')


@needs_stand_in
@pytest.mark.parametrize('first', ['mmcv.ops', 'mmdet.apis', 'mmseg.models'])
def test_without_ours_mmcv_gives_its_own_error(first):
    process = python(f'import {first}')
    if process.returncode or first == 'mmcv.ops':  # the onedl forks of the others do without the operators
        assert process.stderr.strip().endswith("ModuleNotFoundError: No module named 'mmcv._ext'")


@needs_stand_in
def test_build_information_is_what_mmcv_prints_without_operators():
    program = (
        'import mmseg_instancenet\nfrom mmcv.utils import collect_env\nenv = collect_env()\n'
        'print(env["MMCV Compiler"], env["MMCV CUDA Compiler"])'
    )
    assert printed(program).endswith('n/a n/a')


@needs_stand_in
def test_a_missing_operator_raises_one_line_when_it_is_called():
    from mmcv.ops import RoIPool, sigmoid_focal_loss

    with pytest.raises(mmcv_operators.OperatorNotCompiledError) as error:
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 2.0, 0.25)
    message = str(error.value)
    assert '\n' not in message and 'sigmoid_focal_loss_forward is not compiled' in message
    assert 'mmseg_instancenet does not need it' in message and 'mim install "mmcv>=2.0.0,<2.2.0"' in message
    with pytest.raises(mmcv_operators.OperatorNotCompiledError, match='roi_pool_forward'):
        RoIPool(2)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5))


@needs_stand_in
def test_maximum_pooling_is_not_silently_an_average():
    from mmcv.ops import roi_align

    with pytest.raises(
        mmcv_operators.OperatorNotCompiledError, match="pool_mode='max' is not compiled.*pool_mode='avg'"
    ):
        roi_align(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 3, 3]]), 2, 1.0, 0, 'max', True)


@pytest.mark.parametrize('program', PROGRAMS, ids=lambda program: Path(program[-1]).stem)
def test_every_program_has_a_help(program):
    assert 'usage: ' in run_program(*program, '--help')


def test_with_compiled_operators_nothing_is_touched(tmp_path, monkeypatch):
    """A module ``mmcv._ext`` on the path, as in a compiled mmcv, is the one that is imported."""
    program = f"""
import sys, mmcv
mmcv.__path__.insert(0, {str(tmp_path)!r})
before = list(sys.meta_path)
from importlib import util
spec = util.spec_from_file_location('stand_in', {mmcv_operators.__file__!r})
module = util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.provide_operators(), sys.meta_path == before)
import mmcv._ext
print(mmcv._ext.nms)
"""
    (tmp_path / '_ext.py').write_text('nms = "compiled"\n')
    assert printed(program).split() == ['False', 'True', 'compiled']


@pytest.mark.parametrize('interpreter', ['as it is', 'without find_loader'])
def test_mmengine_finds_the_extension_with_and_without_pkgutil_find_loader(interpreter):
    """Python 3.14 has no ``pkgutil.find_loader``; older ones are made to lack it."""
    program = (
        'import pkgutil\nvars(pkgutil).pop("find_loader", None)\n'
        if interpreter == 'without find_loader'
        else 'import pkgutil\n'
    )
    program += (
        'has_it = hasattr(pkgutil, "find_loader")\nimport mmseg_instancenet\n'
        'from mmengine.utils.dl_utils import mmcv_full_available\n'
        'print(mmcv_full_available(), hasattr(pkgutil, "find_loader") == has_it)'
    )
    assert printed(program).endswith('True True')


def test_a_second_call_changes_nothing():
    before = list(sys.meta_path)
    assert provide_operators() is not compiled()
    assert sys.meta_path == before


def boxes_and_scores(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = 40 * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([corner, corner + 1 + 15 * torch.rand(count, 2, generator=generator)], dim=1)
    return boxes, torch.rand(count, generator=generator)


def plain_nms(boxes, scores, threshold, offset):
    """Box by box, from its definition."""
    kept = []
    for index in scores.argsort(descending=True).tolist():
        x1, y1, x2, y2 = boxes[index].tolist()
        for other in kept:
            u1, v1, u2, v2 = boxes[other].tolist()
            width, height = min(x2, u2) - max(x1, u1) + offset, min(y2, v2) - max(y1, v1) + offset
            overlap = max(width, 0) * max(height, 0)
            union = (x2 - x1 + offset) * (y2 - y1 + offset) + (u2 - u1 + offset) * (v2 - v1 + offset) - overlap
            if overlap / union > threshold:
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.7])
def test_nms_is_its_definition(offset, threshold):
    from mmcv.ops import nms

    boxes, scores = boxes_and_scores(300)
    expected = plain_nms(boxes, scores, threshold, offset)
    assert 1 < len(expected) < 300
    assert mmcv_operators.nms(boxes, scores, threshold, offset).tolist() == expected
    kept, indices = nms(boxes, scores, threshold, offset)
    assert indices.tolist() == expected and torch.equal(kept[:, :4], boxes[expected])


def plain_roi_align(features_CHW, box, size, scale, sampling_ratio, aligned):
    """The mean of bilinear samples in each bin, sample by sample."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(value) * scale - shift for value in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    _, rows, columns = features_CHW.shape
    result = torch.zeros(features_CHW.shape[0], size, size)
    for i in range(size):
        for j in range(size):
            for a in range(sampling_ratio):
                for b in range(sampling_ratio):
                    y = y1 + (i + (a + 0.5) / sampling_ratio) * height / size
                    x = x1 + (j + (b + 0.5) / sampling_ratio) * width / size
                    if not (-1 <= y <= rows and -1 <= x <= columns):
                        continue
                    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
                    top, left = int(y), int(x)
                    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
                    v, u = y - top, x - left
                    upper = (1 - u) * features_CHW[:, top, left] + u * features_CHW[:, top, right]
                    lower = (1 - u) * features_CHW[:, bottom, left] + u * features_CHW[:, bottom, right]
                    result[:, i, j] += (1 - v) * upper + v * lower
    return result / sampling_ratio**2


def regions(count=5, seed=1):
    boxes, _ = boxes_and_scores(count, seed)
    return torch.cat([torch.arange(count)[:, None] % 2, boxes], dim=1)


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('scale', [0.25, 0.4])
def test_roi_align_and_its_gradient_are_their_definition(aligned, scale):
    from mmcv.ops import roi_align

    features = torch.randn(2, 3, 14, 15, generator=torch.Generator().manual_seed(2)).requires_grad_()
    rois = regions()
    result = roi_align(features, rois, 3, scale, 2, 'avg', aligned)
    expected = torch.stack([plain_roi_align(features[int(roi[0])], roi[1:], 3, scale, 2, aligned) for roi in rois])
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((result * weights).sum(), features)
    (expected,) = torch.autograd.grad((expected * weights).sum(), features)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@needs_compiled
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_torchvision_agrees_with_compiled_operators(aligned, sampling_ratio):
    from mmcv import _ext

    boxes, scores = boxes_and_scores(300, seed=4)
    for offset in (0, 1):
        ours, theirs = (
            module.nms(boxes, scores, iou_threshold=0.5, offset=offset) for module in (mmcv_operators, _ext)
        )
        assert torch.equal(ours, theirs)
    features = torch.randn(2, 3, 14, 15, generator=torch.Generator().manual_seed(2))
    rois, none = regions(20), features.new_zeros(0)
    settings = dict(
        aligned_height=3,
        aligned_width=4,
        spatial_scale=0.25,
        sampling_ratio=sampling_ratio,
        pool_mode=1,
        aligned=aligned,
    )
    outputs, gradients = [], []
    weights = torch.randn(20, 3, 3, 4, generator=torch.Generator().manual_seed(3))
    for module in (mmcv_operators, _ext):
        outputs.append(torch.zeros(20, 3, 3, 4))
        module.roi_align_forward(features, rois, outputs[-1], none, none, **settings)
        gradients.append(torch.zeros_like(features))
        module.roi_align_backward(weights, rois, none, none, gradients[-1], **settings)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_mask_rcnn_of_mmdet_trains_and_predicts():
    """With compiled operators or torchvision's: its losses reach the backbone, and its boxes pass nms."""
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData

    register_all_modules(init_default_scope=False)
    config = Config.fromfile(Path(mmdet.__file__).parent / '.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
    config.merge_from_dict({'model.backbone.init_cfg': None, 'model.test_cfg.rcnn.score_thr': 0.0})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config.model)
    masks = torch.zeros(2, 96, 96, dtype=torch.uint8)
    masks[0, 10:50, 20:60] = 1
    masks[1, 40:90, 50:90] = 1
    shape = {'img_shape': (96, 96), 'ori_shape': (96, 96), 'pad_shape': (96, 96), 'batch_input_shape': (96, 96)}
    sample = DetDataSample(metainfo={**shape, 'scale_factor': (1.0, 1.0), 'img_id': 1})
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[20.0, 10, 60, 50], [50, 40, 90, 90]]),
        labels=torch.tensor([3, 7]),
        masks=BitmapMasks(masks.numpy(), 96, 96),
    )
    inputs = torch.randn(1, 3, 96, 96)
    losses = model.loss(inputs, [sample])
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert {'loss_rpn_cls', 'loss_bbox', 'loss_mask'} <= set(losses) and torch.isfinite(loss)
    assert all(
        p.grad is not None and p.grad.abs().max() > 0 for p in model.backbone.layer4.parameters() if p.requires_grad
    )

    instances = model.eval().predict(inputs, [sample])[0].pred_instances
    assert 0 < len(instances) <= 100 and instances.masks.shape[1:] == (96, 96)
    for label in instances.labels.unique():
        of_class = instances[instances.labels == label]
        boxes, scores = of_class.bboxes, of_class.scores
        assert plain_nms(boxes, scores, 0.5, 0) == scores.argsort(descending=True).tolist()  # nothing is left to remove
