"""``add_embedding_iterations``: the embeddings of a result after each iteration of mean shift."""

from pathlib import Path

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from references.dense_mean_shift import dense_loops
from untrained_digits import untrained_digits

from mmseg_instancenet.models.segmentors import embedding

CONFIGS = Path(__file__).parents[3] / 'configs'


def predicted(config_name: str, folder: Path):
    """A small model, and its result for an image of noise, whose class map is made by hand."""
    config, _ = untrained_digits(CONFIGS / config_name, folder, num_val=1)
    model = MODELS.build(config.model).eval()
    with torch.no_grad():
        (sample,) = model.predict(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    class_map = torch.zeros(1, 64, 64, dtype=torch.long)
    class_map[:, 8:40, 4:60] = 1
    class_map[:, 30:34, 20:24], class_map[:, 8:10] = 3, 255
    sample.pred_sem_seg = PixelData(data=class_map)
    return model, sample


@pytest.mark.parametrize('cells, step', [(10_000, 1), (1024, 2), (100, 7)])
def test_iterations_are_dense_loops_over_the_things_of_the_image(tmp_path, monkeypatch, cells, step):
    model, sample = predicted('recurrent-embedding_digits.py', tmp_path)
    monkeypatch.setattr(embedding, '_DRAWN_CELLS', cells)
    model.add_embedding_iterations(sample)
    network_Dhw = sample.pred_embeddings.data
    assert network_Dhw.shape[1:] == (64, 64)
    thinned_Dhw = network_Dhw[:, step // 2 :: step, step // 2 :: step]
    class_hw = sample.pred_sem_seg.data[0, step // 2 :: step, step // 2 :: step]
    thing_hw = (class_hw > 0) & (class_hw != 255)
    found = sample.embedding_iterations
    assert found.embedding_dims == len(network_Dhw) and found.image_box == (0, 0, 64, 64)
    found_LDhw = found.data.view(4, len(network_Dhw), *thinned_Dhw.shape[1:])
    expected = torch.stack(dense_loops(thinned_Dhw[:, thing_hw].T, concentration=100, loops=3))
    torch.testing.assert_close(found_LDhw[:, :, thing_hw].mT.double(), expected, atol=1e-3, rtol=0)
    assert (found_LDhw[:, :, ~thing_hw] == 0).all()


def test_a_model_without_mean_shift_in_its_loss_adds_nothing(tmp_path):
    model, sample = predicted('instancenet_digits.py', tmp_path)
    model.add_embedding_iterations(sample)
    assert 'embedding_iterations' not in sample
