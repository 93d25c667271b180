"""The settings of semantic ids, and what is wrong with them before any data is read."""

from __future__ import annotations

from pathlib import Path

from recbole_attn.errors import UserError
from recbole_attn.semantic_ids.quantizers import QUANTIZERS, require_quantizer
from recbole_attn.semantic_ids.sentence import cache_folder, require_encoder

SOURCES = (None, "text", "interactions", "sentence")
SETTINGS = (
    "item_vectors", "item_columns", "sentence_model", "pair_window", "vector_size", "whiten",
    "quantizer", "n_codes", "code_bits",
)  # fmt: skip
_RANGES = (("n_codes", 1, 4096), ("code_bits", 1, 16), ("vector_size", 2, 65536), ("pair_window", 1, 1000))


def check_settings(config) -> None:
    """Raise UserError where a setting is outside its range, or two contradict each other. Reads no data."""
    if config["quantizer"] not in QUANTIZERS:
        raise UserError(f"quantizer={config['quantizer']}: must be one of {', '.join(QUANTIZERS)}")
    for name, least, most in _RANGES:
        if not least <= config[name] <= most:
            raise UserError(f"{name}={config[name]}: must lie in {least} … {most}")
    if config["quantizer"] in ("opq", "pq") and config["n_codes"] > config["vector_size"]:
        raise UserError(
            f"n_codes={config['n_codes']}: quantizer={config['quantizer']} cuts vectors into so many slices, and "
            f"vector_size={config['vector_size']} has fewer dimensions; lower n_codes, or use quantizer=rq"
        )


def require_packages(config) -> None:
    """Raise UserError where vectors or codes cannot be made here: no faiss, no sentence encoder, no such file."""
    if config["semantic_ids"] and Path(config["semantic_ids"]).is_file():
        return
    require_quantizer(config["quantizer"])
    source = config["item_vectors"]
    if config["quantizer"] == "random":
        return
    if source == "sentence" and not any(cache_folder().glob("*.npy")):  # kept vectors may be all that is needed
        require_encoder()
    if source not in SOURCES and not Path(source).is_file():
        raise UserError(f"item_vectors={source}: no such file; give one, or text, interactions or sentence")
