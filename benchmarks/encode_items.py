"""Vectors of items by a pre-trained encoder of text that pip brings along, for `item_vectors: PATH`.

    pip install wordllama==0.4.0.post1
    python benchmarks/encode_items.py --dataset=amazon-beauty --data_path=../shared/data

WordLlama (256 dimensions, 16 MB) averages the vectors that a large language model has for the words of a text. It is
no encoder of sentences, but knows which words mean alike without having seen these items. The text of an item is what
`item_vectors: sentence` would encode. The vectors lie in saved/, where encoder-amazon-beauty.yaml looks for them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import wordllama

import recbole_attn  # noqa: F401  (before anything imports RecBole)
from recbole_attn.data.atomic import read_header, read_table
from recbole_attn.data.items import read_item_columns
from recbole_attn.semantic_ids.text import sentences

FOLDER = Path("saved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_path", type=Path, required=True, help="where the folder of the data set is")
    given = parser.parse_args()
    file = given.data_path / given.dataset / f"{given.dataset}.item"
    header = read_header(file, "\t", "utf-8")
    column = read_table(file, header, {"item_id": header["item_id"]}, "\t", "utf-8")["item_id"]
    items = list(dict.fromkeys(column.astype(str)))
    texts = sentences(read_item_columns(file, "item_id", items, None, "\t", "utf-8"))
    # The wheel has all that is needed, but its tokenizer not in the folder where the package looks first.
    encoder = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    FOLDER.mkdir(exist_ok=True)
    out = FOLDER / f"{given.dataset}-wordllama.npz"
    np.savez(out, ids=np.array(items), vectors=encoder.embed(texts, norm=True).astype(np.float32))
    print(f"{len(items)} vectors: {out}")


if __name__ == "__main__":
    main()
