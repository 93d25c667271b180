"""Semantic ids: item columns → vectors → K codes an item. Nothing here imports RecBole or reads a config."""

from recbole_attn.semantic_ids.ids import SemanticIds, code_usage, collision_rate, compact, summary, with_padding

__all__ = ["SemanticIds", "code_usage", "collision_rate", "compact", "summary", "with_padding"]
