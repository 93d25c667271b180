"""AC-TSR on a SASRec backbone: calibrated attention (CIKM 2023; see attention/calibrated.py)."""

from recbole_attn.model.calibrated import CalibratedModel
from recbole_attn.model.sasrec import SASRecBackbone


class ACTSR(CalibratedModel, SASRecBackbone):
    """Calibrated attention on SASRec; its control is AttnSASRec."""
