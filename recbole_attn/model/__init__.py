"""The models, each a thin RecBole `SequentialRecommender`, and the table that names them."""

MODELS = {
    "ACBERT4Rec": "recbole_attn.model.acbert4rec",
    "ACTSR": "recbole_attn.model.actsr",
    "AWRSR": "recbole_attn.model.awrsr",
    "AttnBERT4Rec": "recbole_attn.model.attn_bert4rec",
    "AttnSASRec": "recbole_attn.model.attn_sasrec",
}
