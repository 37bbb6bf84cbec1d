from setuptools import find_packages, setup

setup(
    name='mmseg_instancenet',
    version='0.1.0',
    description='Instance segmentation by pixel embeddings, as an OpenMMLab plugin',
    packages=find_packages(include=['mmseg_instancenet', 'mmseg_instancenet.*']),
    python_requires='>=3.9',
    # torch, mmcv, mmdet and mmseg are deliberately absent: they are the user's, and pip would move them.
    # mmseg_instancenet/__init__.py checks them and says what to install.
    install_requires=[],
    extras_require={'digits': ['scikit-learn'], 'boundaries': ['scikit-image']},
)
