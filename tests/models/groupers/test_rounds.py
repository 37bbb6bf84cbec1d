"""Groups in rounds: what no grouper asks for, since it checks its settings."""

import pytest
import torch

from mmseg_instancenet.models.groupers.rounds import Cells, Found, Pairs, group_in_rounds


class Nothing:
    """Groups without a pixel, not even the founder's."""

    moves = True

    def first_pixels(self, cells, pixel_F, spans):
        return self.groups(cells, pixel_F, spans).members

    def groups(self, cells, pixel_F, spans):
        none_Q = torch.zeros(0, dtype=torch.long)
        return Found(Pairs(none_Q, none_Q), Pairs(none_Q, none_Q))


def test_groups_without_their_founder_are_an_error_and_no_endless_loop():
    x_ND, region_N = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match=r'expected each pixel in the group around it, got none within 0\.5'):
        group_in_rounds(
            Cells(x_ND, region_N, 0.5), x_ND, region_N, torch.arange(2), torch.full((2,), 0.5), Nothing(), None
        )
