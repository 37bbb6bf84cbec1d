"""Mutants that no test can find, each with the reason: they compute what the code computes, or differ in what nothing promises.

The key of a mutant is its file, its function, its line, what it changes, into what, and its number among equal ones.
"""

_TUNING = 'a size on which time and memory depend; that any size gives the same groups is tested'

EQUIVALENT: dict[tuple[str, str, str, str, str, int], str] = {
    (
        'models/mean_shift/cores.py',
        'merge_cores',
        'is_member_B = (x_BD - center_KD[nearest_B]).norm(dim=1) <= radius',
        '(x_BD - center_KD[nearest_B]).norm(dim=1) <= radius',
        '((x_BD - center_KD[nearest_B]).norm(dim=1) < radius)',
        1,
    ): 'an embedding at the radius exactly may be merged or not: the radius is drawn from a sample',
    (
        'models/mean_shift/modes.py',
        'grid_cells',
        'return (number_PD * factor_D.to(x_PD.device, non_blocking=True)).sum(1)  # overflows wrap around',
        'True',
        '(False)',
        1,
    ): 'the copy to a GPU is waited for, and the values are the same',
    (
        'models/groupers/base.py',
        'join_touching',
        'joined_K = torch.arange(count + small_count + 1, device=labels_hw.device)',
        '1',
        '(2)',
        1,
    ): 'one more entry, which no label is the number of',
    (
        'models/groupers/base.py',
        'join_touching',
        'if count == 0 or small_count == 0:',
        'count == 0 or small_count == 0',
        '(count == 0 and small_count == 0)',
        1,
    ): 'saves time alone: without groups none is joined, and without small groups none joins',
    (
        'models/groupers/rounds.py',
        '',
        "_PAIRS = {'cpu': (1 << 14, 1 << 16), 'cuda': (1 << 20, 1 << 20)}",
        '14',
        '(15)',
        1,
    ): _TUNING,
    (
        'models/losses/discriminative.py',
        'discriminative_terms',
        'instances.image_K * class_span + instances.class_K, return_inverse=True, return_counts=True',
        'instances.image_K * class_span + instances.class_K',
        '(instances.image_K * class_span - instances.class_K)',
        1,
    ): 'other numbers, which are as different for different classes and images',
    (
        'models/losses/pair_blocks.py',
        '_hinge_block',
        'block_RC = buffer[: len(a_RE) * len(b_CE)].view(len(a_RE), len(b_CE))',
        'buffer[: len(a_RE) * len(b_CE)].view(len(a_RE), len(b_CE))',
        '(buffer[:len(a_RE) * len(b_CE)].view(len(b_CE), len(a_RE)))',
        1,
    ): 'torch.mm gives its output the right shape',
    (
        'evaluation/metrics/region_average_precision_metric.py',
        'RegionAveragePrecisionMetric.compare',
        'excused_TK[:, index_K] = ~hit_TK[:, index_K] & (inside_K >= above_T[:, None])',
        'inside_K >= above_T[:, None]',
        '(inside_K > above_T[:, None])',
        1,
    ): 'the float next to a threshold is no ratio of two numbers of pixels',
    ('models/groupers/mean_shift.py', '', '_BATCH = 4096', '4096', '(4097)', 1): _TUNING,
    ('models/groupers/mean_shift.py', '', '_HEAVY = 1024', '1024', '(1025)', 1): _TUNING,
}
"""From the key of a mutant to the reason."""
