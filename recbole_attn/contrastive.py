"""Objectives that compare states with each other: robustness to noise, and mutual information.

    triplet : mean max(0, ‖h-h̃‖² - ‖h-h⁻‖² + margin)      h̃ of the perturbed history, h⁻ of another user
    cosine  : mean (1 - h·h̃)
    InfoNCE : -mean log exp(h·e/τ) / Σ exp(h·e'/τ)          e of the target, e' of all targets in the batch

Source: FAIR (arXiv 2512.11254) has an objective that keeps attention stable under random perturbation, and one of
mutual information; a summary calls the latter InfoNCE. The equations are our reconstruction, since the paper's own
could not be read. All vectors are taken at unit length, so that margin and τ mean the same for every hidden size:
squared distances lie in [0, 4].

Shapes: B states, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

NOISE_LOSSES = ("triplet", "cosine")


def triplet_loss(states: Tensor, noisy: Tensor, others: Tensor, margin: float) -> Tensor:
    """The mean over states (B, D), their noisy twins and states of other users; of no state, 0."""
    states, noisy, others = (normalize(each, dim=-1) for each in (states, noisy, others))
    near, far = ((states - each).square().sum(-1) for each in (noisy, others))
    return (near - far + margin).relu().sum() / max(1, len(states))


def cosine_loss(states: Tensor, noisy: Tensor) -> Tensor:
    """The mean over states (B, D) and their noisy twins."""
    return (1 - cosine_similarity(states, noisy, dim=-1)).mean()


def noise_loss(kind: str, states: Tensor, noisy: Tensor, users: Tensor, margin: float) -> Tensor:
    """How far noise moves states (B, D) of the users (B,); `kind` is one of `NOISE_LOSSES`.

    A triplet's other state is drawn from the batch; a state that draws one of its own user is left out.
    """
    if kind == "cosine":
        return cosine_loss(states, noisy)
    drawn = torch.randperm(len(users), device=users.device)
    usable = users[drawn] != users
    return triplet_loss(states[usable], noisy[usable], states[drawn[usable]], margin)


def info_nce(states: Tensor, items: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """InfoNCE of states (B, D) and the vectors (B, D) of their target items (B,), with the batch as negatives.

    Negatives are drawn as often as they are targets in the batch, but rows with the same target are no negatives of
    each other: they are masked out.
    """
    alike = targets[:, None] == targets
    scores = normalize(states, dim=-1) @ (normalize(items, dim=-1) / temperature).T
    scores = scores.masked_fill(alike.fill_diagonal_(False), -torch.inf)
    return cross_entropy(scores, torch.arange(len(targets), device=targets.device))
