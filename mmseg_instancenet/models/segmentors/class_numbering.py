"""Numbering of the classes of a class map: background, things and stuff."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from torch import Tensor

from ...structures import IGNORED_CLASS


class ClassNumbering(NamedTuple):
    """The classes of a class map with values 0 .. C - 1, 255 = ignore: which are background, things and stuff.

    A *label* is the place of a class in the data set's list of classes, from 0. Where 0 is the background, class c of the map has
    the label c - 1; without a background (Cityscapes, ADE20K) the label c.

    background: whether 0 is the background.
    thing_labels: labels of the classes whose objects are separated; the others are stuff.
    num_labels: length of the data set's list of classes.
    """

    background: bool
    thing_labels: tuple[int, ...]
    num_labels: int

    @classmethod
    def of(cls, num_classes: int, background: bool, thing_classes: Sequence[int] | None) -> 'ClassNumbering':
        """Builds the numbering from a model's settings.

        Raises:
            ValueError: for a thing that is none of the labels, or is named twice.
        """
        num_labels = num_classes - background
        things = tuple(range(num_labels) if thing_classes is None else thing_classes)
        if len(set(things)) < len(things) or not all(0 <= label < num_labels for label in things):
            raise ValueError(
                f'expected thing_classes as different numbers 0 .. {num_labels - 1}, places in the list of classes, got '
                f'{list(things)}'
            )
        return cls(background, things, num_labels)

    @property
    def has_stuff(self) -> bool:
        """Whether there are classes, besides the background, whose objects are not separated."""
        return len(self.thing_labels) < self.num_labels

    def is_thing(self, device: torch.device) -> Tensor:
        """Whether each value of the class map is a thing: (C,) bool."""
        thing_C = torch.zeros(self.num_labels + self.background, dtype=torch.bool, device=device)
        thing_C[[label + self.background for label in self.thing_labels]] = True
        return thing_C

    def things(self, class_map: Tensor) -> Tensor:
        """The class map with label + 1 for things, 0 for all other classes, 255 for ignored pixels.

        Example:
            >>> ClassNumbering.of(3, background=False, thing_classes=[0, 2]).things(torch.tensor([0, 1, 2, 255]))
            tensor([  1,   0,   3, 255])
        """
        ignored = class_map == IGNORED_CLASS
        value = class_map.masked_fill(ignored, 0)
        label = value + (not self.background)  # plus one
        return torch.where(ignored, IGNORED_CLASS, label * self.is_thing(class_map.device)[value])

    def panoptic(self, class_HW: Tensor, instance_map_HW: Tensor, label_K: Tensor) -> Tensor:
        """Panoptic map, in the form that mmdet's ``CocoPanopticMetric`` reads: an id for each thing, a class for stuff.

        Args:
            class_HW: (H, W) classes.
            instance_map_HW: (H, W): 0 = none, k = the k-th instance.
            label_K: (K,) labels of the instances.

        Returns:
            (H, W) int64: the label of stuff; label + 1000 k on the k-th instance; the number of labels, which is void, on the
            background and on things that belong to no instance.

        Example:
            >>> numbering = ClassNumbering.of(3, background=False, thing_classes=[2])
            >>> numbering.panoptic(torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 0, 1, 0]]), torch.tensor([2]))
            tensor([[   0,    1, 1002,    3]])
        """
        things_HW = self.things(class_HW)
        label_HW = class_HW - int(self.background)
        stuff_HW = (things_HW == 0) & (label_HW >= 0)
        number_K1 = torch.cat(
            [label_K.new_zeros(1), label_K + INSTANCE_OFFSET * torch.arange(1, len(label_K) + 1).to(label_K)]
        )
        number_HW = torch.where(stuff_HW, label_HW, self.num_labels)
        return torch.where(instance_map_HW > 0, number_K1[instance_map_HW], number_HW)
