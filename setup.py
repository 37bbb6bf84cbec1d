"""Puts configs, tools and model index into the wheel, where MIM looks for them; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
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


setup(cmdclass={'build_py': BuildWithMim, 'bdist_wheel': WheelWithMim})
