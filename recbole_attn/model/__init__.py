"""The models, each a thin RecBole `SequentialRecommender`, and the table that names them."""

MODELS = {
    "ACBERT4Rec": "recbole_attn.model.acbert4rec",
    "ACTSR": "recbole_attn.model.actsr",
    "AWRSR": "recbole_attn.model.awrsr",
    "AWRSTOSA": "recbole_attn.model.awrstosa",
    "AttnBERT4Rec": "recbole_attn.model.attn_bert4rec",
    "AttnSASRec": "recbole_attn.model.attn_sasrec",
    "FAIR": "recbole_attn.model.fair",
    "FocusedSASRec": "recbole_attn.model.focused_sasrec",
    "RPG": "recbole_attn.model.rpg",
    "STOSA": "recbole_attn.model.stosa",
}
