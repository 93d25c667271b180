"""The control: BERT4Rec with softmax attention, in the same code as every mended model."""

from recbole_attn.model.bert4rec import BERT4RecBackbone


class AttnBERT4Rec(BERT4RecBackbone):
    """BERT4Rec. With copied weights it gives the scores of RecBole's own, where that one is right."""
