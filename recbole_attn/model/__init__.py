"""The models, each a thin RecBole `SequentialRecommender`, and the table that names them."""

MODELS = {
    "AWRSR": "recbole_attn.model.awrsr",
    "AttnSASRec": "recbole_attn.model.attn_sasrec",
}
