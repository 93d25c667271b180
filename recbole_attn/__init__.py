"""Attention mechanisms for sequential recommendation, as a RecBole plugin.

Importing the package makes RecBole 1.2.1 work on today's Python stack and registers the models with it.
"""

from recbole_attn import remedies

remedies.apply()

from recbole_attn.registry import register  # noqa: E402  (RecBole can be imported only now)

register()

from recbole_attn.recommender import recommend  # noqa: E402

__all__ = ["recommend", "register"]

__version__ = "0.1.0"
