"""Folders of images and masks, brought into the normal form of annotation files.

A folder is converted once into a COCO json beside it, and only what has changed is converted again. Data sets, metrics and tools
then read a folder as they read any annotation file: the conversion is the only code that differs. (Reading the masks in the
pipeline instead would leave metrics, ``tools/check_dataset.py`` and ``tools/tune.py --aim AP`` without the objects, or with a
second way to read them, and faults would appear when an image's turn comes.)
"""

from .conversion import Conversion, LabelFolder, convert_folder, update_annotations

__all__ = ['Conversion', 'LabelFolder', 'convert_folder', 'update_annotations']
