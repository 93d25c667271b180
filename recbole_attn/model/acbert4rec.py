"""AC-TSR on a BERT4Rec backbone: calibrated attention (CIKM 2023; see attention/calibrated.py)."""

from recbole_attn.model.bert4rec import BERT4RecBackbone
from recbole_attn.model.calibrated import CalibratedModel


class ACBERT4Rec(CalibratedModel, BERT4RecBackbone):
    """Calibrated attention on BERT4Rec; its control is AttnBERT4Rec."""
