# The paper's D = 3: embeddings on a sphere that can be drawn (tools/analysis/embedding_sphere.py). At a margin of 0.5 six
# instances fit.
_base_ = './recurrent-embedding_digits.py'
model = dict(decode_head=dict(embedding_dims=3))
