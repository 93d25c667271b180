"""Items of several codes, written as loops; see recbole_attn/codes.py."""

import torch


def unit(vector):
    return vector / torch.sqrt(sum(cell * cell for cell in vector))


def value(coded, k, v):
    return coded.embedding.weight[k * coded.n_values + v]


def vector(coded, item):
    if item == 0:
        return torch.zeros(coded.embedding.embedding_dim).double()
    return sum(value(coded, k, int(code)) for k, code in enumerate(coded.codes[item])) / coded.n_codes


def log_chances(coded, state, k):
    """The log-probability of each value of code k after a state."""
    size = len(state)
    wide = coded.heads.weight[k * size : (k + 1) * size] @ state + coded.heads.bias[k * size : (k + 1) * size]
    head = unit(state + wide * torch.sigmoid(wide))
    logits = [head @ unit(value(coded, k, v)) / coded.temperature for v in range(coded.n_values)]
    total = torch.log(sum(torch.exp(logit) for logit in logits))
    return [logit - total for logit in logits]


def score(coded, state, item):
    return sum(log_chances(coded, state, k)[int(code)] for k, code in enumerate(coded.codes[item])) / coded.n_codes


def loss(coded, states, items):
    return -sum(score(coded, state, int(item)) for state, item in zip(states, items)) / len(states)
