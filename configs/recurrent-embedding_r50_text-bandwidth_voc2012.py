# Ablation: the bandwidth of the paper's text, 1 / delta = (1 - alpha) / 3, at a margin of 0.5. A large group, such as the
# background, then attracts small ones across the margin and absorbs them within a few loops, with a warning.
_base_ = './recurrent-embedding_r50_voc2012.py'

concentration = 3 / (1 - 0.5)
model = dict(grouper=dict(concentration=concentration))
