"""The control: SASRec with softmax attention, in the same code as every mended model."""

from recbole_attn.model.sasrec import SASRecBackbone


class AttnSASRec(SASRecBackbone):
    """SASRec. With copied weights it gives the scores and the loss of RecBole's own."""
