"""The reference of every test of mean shift: equation (3) of Kong & Fowlkes with the whole kernel matrix, in float64."""

import torch


def dense_loops(x_ND, concentration, loops, kernel='cosine', step_size=1.0, mass_N=None):
    """Yields the embeddings after 0, 1, 2, .. iterations, (N, D) float64, by the whole (N, N) kernel matrix."""
    x = x_ND.double()
    mass = torch.ones(len(x), dtype=torch.float64) if mass_N is None else mass_N.double()
    if kernel == 'cosine':
        x = x / x.norm(dim=1, keepdim=True)
    result = [x]
    for _ in range(loops):
        log_kernel = concentration * x @ x.T
        if kernel == 'norm':
            log_kernel = -concentration / 2 * (x[:, None] - x[None, :]).square().sum(2)
        weights = (log_kernel - log_kernel.amax(1, keepdim=True)).exp() * mass
        mean = weights @ x / weights.sum(1, keepdim=True)
        x = step_size * mean + (1 - step_size) * x
        if kernel == 'cosine':
            x = x / x.norm(dim=1, keepdim=True)
        result.append(x)
    return result


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def blobs(dims, count=120, seed=0, spread=0.2):
    """Six directions with noise, a step of 1 / concentration apart from trivial at every concentration that is tested."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.nn.functional.normalize(torch.randn(6, dims, generator=generator), dim=1)
    group = torch.randint(6, (count,), generator=generator)
    return center[group] + spread / dims**0.5 * torch.randn(count, dims, generator=generator)


def clusters(count, dims, seed=0, spread=0.1):
    """Half of the points in one of eight groups, the others in the rest by halves; a tenth lies on the way to another group.

    Returns unit vectors (N, D) and the group of each, -1 on the way.
    """
    generator = torch.Generator().manual_seed(seed)
    center = torch.eye(max(dims, 8))[:8, :dims] if dims >= 8 else torch.cat([torch.eye(dims), -torch.eye(dims)])
    share = 0.5 ** torch.arange(1, len(center) + 1)
    group = torch.multinomial(share, count, replacement=True, generator=generator)
    other = torch.randint(len(center), (count,), generator=generator)
    way = torch.rand(count, 1, generator=generator) * (torch.rand(count, 1, generator=generator) < 0.1)
    x = (1 - way) * center[group] + way * center[other]
    x = x + spread / dims**0.5 * torch.randn(count, dims, generator=generator)
    return torch.nn.functional.normalize(x, dim=1), torch.where(way[:, 0] > 0, -1, group)
