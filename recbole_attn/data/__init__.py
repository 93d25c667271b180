"""From atomic files to RecBole's loaders: exact time order, prefixes by index, fast reading.

`load_dataset(config)` builds the data set of a run and `split(config, dataset)` its three loaders.
"""

from recbole_attn.data.loaders import load_dataset, split
from recbole_attn.data.prefixes import PrefixDataset

__all__ = ["PrefixDataset", "load_dataset", "split"]
