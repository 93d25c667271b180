"""Every mechanism written as loops over batch, head, query and key: slow, plain, and the measure of the fast forms.

A reference takes the mechanism for its parameters alone. x is (B, L, D), mask is bool (B, 1, L, L), the result is
the list of final weights (B, H, L, L) as a tensor.
"""

import math

import torch


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
        length = len(q)
        n_items = sum(i in visible[i] for i in range(length))
        first = plain_map(q, k, visible)

        def place(j):  # the row of a U matrix that column j meets
            return (n_items - 1 - j) % length if mechanism.index == "recent" else j

        def through(weights, matrix, width):
            return [sum(weights[j] * matrix[place(j), c] for j in range(length)) for c in range(width)]

        n = mechanism.max_length
        queries = [through(row, mechanism.query_map[h], n) for row in first]
        keys = [through(row, mechanism.key_map[h], n) for row in first]
        c = mechanism.log_scale[h, 0, 0].exp()

        def alike(i, j):
            if mechanism.refinement == "bahdanau":
                return sum(mechanism.judge[h, t] * torch.tanh(queries[i][t] + keys[j][t]) for t in range(n))
            return sum(queries[i][t] * keys[j][t] for t in range(n))

        again = [softmax_over([c * alike(i, j) for j in range(length)], visible[i]) for i in range(length)]
        if mechanism.refinement == "simple":
            return again
        if mechanism.refinement == "value":
            return product(again, first)
        if mechanism.refinement == "value_map":
            logits = [through(row, mechanism.value_map[h], length) for row in first]
            mapped = [softmax_over([row[place(j)] for j in range(length)], visible[i]) for i, row in enumerate(logits)]
            return product(again, mapped)
        a = torch.sigmoid(mechanism.mix_logit[h, 0, 0]) if mechanism.mix == "learned" else mechanism.mix
        return [[(1 - a) * first[i][j] + a * again[i][j] for j in range(length)] for i in range(length)]

    return for_each_head(mechanism, x, mask, head_map)


def product(left, right):
    size = range(len(right))
    return [[sum(row[m] * right[m][j] for m in size) for j in size] for row in left]
