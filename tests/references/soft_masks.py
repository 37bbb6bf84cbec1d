"""The terms of Neven et al. (2019) in loops over instances, with the Lovasz hinge of one mask at a time."""

import torch


def plain_hinge(mask, own):
    """Lovasz hinge of one soft mask (Berman et al. 2018, algorithm 1): sets of wrong pixels, counted one by one."""
    logit = 2 * mask - 1
    error = 1 - logit * torch.where(own, 1.0, -1.0)
    total, before, wrong = 0, 0.0, []
    for pixel in error.detach().argsort(descending=True).tolist():
        wrong.append(pixel)
        size, missed = int(own.sum()), sum(bool(own[p]) for p in wrong)
        jaccard_loss = 1 - (size - missed) / (size + len(wrong) - missed)
        total = total + error[pixel].clamp(min=0) * (jaccard_loss - before)
        before = jaccard_loss
    return total


def mask_terms(embeddings, instance_map, class_map, foreground_weight=10.0):
    """The three terms in float64, differentiable, every instance with every labelled pixel of its image."""
    totals = [0, 0, 0]
    for x_DHW, ids, classes in zip(embeddings.double(), instance_map, class_map, strict=True):
        labelled = (ids != -1) & (classes != 255)
        if not labelled.any():
            continue
        x, ids = x_DHW[:, labelled].T, ids[labelled]
        position, bandwidth, seed = x[:, :-2], x[:, -2], 1 / (1 + torch.exp(-x[:, -1]))
        squares = seed[ids == 0].square().sum()
        names = [name for name in ids.unique().tolist() if name > 0]
        for name in names:
            own = ids == name
            center, mean = position[own].mean(0), bandwidth[own].mean()
            mask = torch.exp(-((position - center) ** 2).sum(1) * mean.exp())
            totals[0] += plain_hinge(mask, own) / len(names)
            totals[1] += ((bandwidth[own] - mean) ** 2).mean() / len(names)
            squares = squares + foreground_weight * ((seed[own] - mask[own].detach()) ** 2).sum()
        totals[2] += squares / len(ids)
    totals = [torch.as_tensor(total, dtype=torch.float64, device=embeddings.device) for total in totals]
    return torch.stack(totals) / len(embeddings)
