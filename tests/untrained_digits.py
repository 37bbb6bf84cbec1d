"""A small network for digits with its first weights, as a checkpoint."""

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_instancenet.datasets.digits import write_digits


def untrained_digits(config_file, folder, num_val):
    """Writes ``folder/data`` and ``folder/untrained.pth``: the config for them, and the same as options of a command."""
    write_digits(folder / 'data', num_train=1, num_val=num_val)
    config = Config.fromfile(config_file)
    widths = {'in_channels': 32, 'channels': 8, 'c1_in_channels': 4, 'c1_channels': 4}
    if config.model.decode_head.type == 'EmbeddingFCNHead':
        widths = {'in_channels': 4, 'channels': 8}
    options = [
        f'test_dataloader.dataset.data_root={folder}/data',
        'model.backbone.base_channels=4',
        *(f'model.decode_head.{name}={width}' for name, width in widths.items()),
    ]
    config.merge_from_dict(
        {key: int(value) if value.isdigit() else value for key, value in (o.split('=') for o in options)}
    )
    init_default_scope('mmseg')  # a fixture of a module comes before that of conftest.py
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    meta = {'dataset_meta': {'classes': tuple('0123456789'), 'palette': [(0, 0, 0)] * 10}}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, folder / 'untrained.pth')
    return config, options
