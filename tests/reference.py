"""Every mechanism written as loops over batch, head, query and key: slow, plain, and the measure of the fast forms.

A reference takes the mechanism for its parameters alone. x is (B, L, D), mask is bool (B, 1, L, L), the result is
the list of final weights (B, H, L, L) as a tensor.
"""

import math

import torch
from torch.nn.functional import elu


def softmax_over(scores, visible):
    """Softmax of a list of scores over the indices in `visible`, 0 elsewhere."""
    if not visible:
        return [torch.zeros(()).double() for _ in scores]
    top = max(float(scores[j]) for j in visible)
    exps = {j: torch.exp(scores[j] - top) for j in visible}
    total = sum(exps.values())
    return [exps[j] / total if j in exps else torch.zeros(()).double() for j in range(len(scores))]


def for_each_head(mechanism, x, mask, head_map):
    """Stack head_map(head, q, k, visible) over batch and heads; q and k are lists of vectors."""
    maps = []
    size = x.size(-1) // mechanism.n_heads
    for b in range(x.size(0)):
        q = [mechanism.query.weight @ row + mechanism.query.bias for row in x[b]]
        k = [mechanism.key.weight @ row + mechanism.key.bias for row in x[b]]
        visible = [[j for j in range(x.size(1)) if mask[b, 0, i, j]] for i in range(x.size(1))]
        for h in range(mechanism.n_heads):
            part = slice(h * size, (h + 1) * size)
            maps.append(head_map(h, [row[part] for row in q], [row[part] for row in k], visible))
    return torch.stack([torch.stack([torch.stack(row) for row in m]) for m in maps]).unflatten(
        0, (x.size(0), mechanism.n_heads)
    )


def plain_map(q, k, visible):
    scale = math.sqrt(len(q[0]))
    return [softmax_over([q[i] @ k[j] / scale for j in range(len(k))], visible[i]) for i in range(len(q))]


def softmax(mechanism, x, mask):
    return for_each_head(mechanism, x, mask, lambda h, q, k, visible: plain_map(q, k, visible))


def refined(mechanism, x, mask):
    def head_map(h, q, k, visible):
        return refine(mechanism.refinement, h, plain_map(q, k, visible), visible)

    return for_each_head(mechanism, x, mask, head_map)


def refine(refinement, h, first, visible):
    """The final weights of head h, made of its first map."""
    length = len(first)
    n_items = sum(i in visible[i] for i in range(length))
    compare, c = correlation(refinement, h, first, n_items), refinement.log_scale[h, 0, 0].exp()
    again = [softmax_over([c * compare(i, j) for j in range(length)], visible[i]) for i in range(length)]
    if refinement.kind in ("simple", "stochastic"):
        return again
    if refinement.kind == "value":
        return product(again, first)
    if refinement.kind == "value_map":
        logits = [through(refinement, row, refinement.value_map[h], length, n_items) for row in first]
        back = [place(refinement, j, length, n_items) for j in range(length)]
        mapped = [softmax_over([row[j] for j in back], visible[i]) for i, row in enumerate(logits)]
        return product(again, mapped)
    a = torch.sigmoid(refinement.mix_logit[h, 0, 0]) if refinement.mix == "learned" else refinement.mix
    return [[(1 - a) * first[i][j] + a * again[i][j] for j in range(length)] for i in range(length)]


def correlation(refinement, h, first, n_items):
    """The function of two row numbers that says how alike the rows are."""
    n = range(refinement.max_length)

    def mapped(matrix):
        return [through(refinement, row, matrix[h], len(n), n_items) for row in first]

    if refinement.kind == "stochastic":
        means = mapped(refinement.mean_map)
        spreads = [[elu(s) + 1 for s in row] for row in mapped(refinement.covariance_map)]
        return lambda i, j: -wasserstein(means[i], spreads[i], means[j], spreads[j])
    queries, keys = mapped(refinement.query_map), mapped(refinement.key_map)
    if refinement.kind == "bahdanau":
        return lambda i, j: sum(refinement.judge[h, t] * torch.tanh(queries[i][t] + keys[j][t]) for t in n)
    return lambda i, j: sum(queries[i][t] * keys[j][t] for t in n)


def wasserstein(mean_a, spread_a, mean_b, spread_b):
    """Squared distance of two Gaussians, each a list of means and a list of variances."""
    means = sum((a - b) ** 2 for a, b in zip(mean_a, mean_b))
    return means + sum((a.sqrt() - b.sqrt()) ** 2 for a, b in zip(spread_a, spread_b))


def through(refinement, weights, matrix, width, n_items):
    """A row of a map times a U matrix."""
    length = len(weights)
    rows = [matrix[place(refinement, j, length, n_items)] for j in range(length)]
    return [sum(weights[j] * rows[j][c] for j in range(length)) for c in range(width)]


def place(refinement, j, length, n_items):
    """The row of a U matrix that column j meets."""
    return (n_items - 1 - j) % length if refinement.index == "recent" else j


def product(left, right):
    size = range(len(right))
    return [[sum(row[m] * right[m][j] for m in size) for j in size] for row in left]
