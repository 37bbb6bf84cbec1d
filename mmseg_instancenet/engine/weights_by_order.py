"""Renames the weights of one implementation of a network to the names of another, by their order."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor


def rename_by_order(weights: Mapping[str, Tensor], model_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of ``weights`` under the names of ``model_state``, in order: first tensor, first name, and so on.

    Two implementations of one network name its layers differently and create them in the same order. A match by order says
    nothing about tensors of equal shape that changed places: test the result on data as well.

    Args:
        weights: tensors to rename.
        model_state: ``state_dict()`` of the model that shall load them.

    Raises:
        ValueError: if the numbers of tensors differ, or a tensor has another shape or type than that at its place.

    Example:
        >>> import torch
        >>> weights = {'fc.w': torch.ones(1, 2), 'fc.b': torch.zeros(1)}
        >>> rename_by_order(weights, torch.nn.Linear(2, 1).state_dict())
        {'weight': tensor([[1., 1.]]), 'bias': tensor([0.])}
    """
    advice = 'these weights are not those of this model'
    if len(weights) != len(model_state):
        raise ValueError(f'expected {len(model_state)} tensors, as the model has, got {len(weights)}: {advice}')
    pairs = zip(weights.items(), model_state.items(), strict=True)
    for number, ((old, value), (new, wanted)) in enumerate(pairs, start=1):
        if (value.dtype, value.shape) != (wanted.dtype, wanted.shape):
            raise ValueError(
                f'expected {wanted.dtype} {tuple(wanted.shape)} for {new}, tensor {number} of {len(weights)}, got {value.dtype} '
                f'{tuple(value.shape)} of {old}: {advice}'
            )
    return dict(zip(model_state, weights.values(), strict=True))


def keep_named(weights: Mapping[str, Tensor], names: Collection[str], droppable: Sequence[str]) -> dict[str, Tensor]:
    """Selects the tensors of some names.

    Args:
        weights: tensors to choose from.
        names: of the model that shall load them.
        droppable: modules, all of whose tensors may be left out. Others must be among ``names``.

    Raises:
        ValueError: if a tensor is missing, or left over and of another module.

    Example:
        >>> import torch
        >>> list(keep_named({'conv.bias': torch.zeros(1), 'head.bias': torch.zeros(1)}, ['conv.bias'], droppable=['head']))
        ['conv.bias']
    """
    missing = [name for name in names if name not in weights]
    left_over = [
        name for name in weights if name not in names and not name.startswith(tuple(f'{part}.' for part in droppable))
    ]
    if missing or left_over:
        raise ValueError(
            f'expected weights for all tensors of the model, and no more but of {", ".join(droppable)}; missing: '
            f'{", ".join(missing) or "none"}; left over: {", ".join(left_over) or "none"}'
        )
    return {name: weights[name] for name in names}
