"""From trained checkpoints to what their attention reads, before and after a mechanism mends it.

    rows = read_rows(["saved/RUN/best.pth"])
    models = [trained.model for trained in rows[0].seeds]
    cases, dataset = load_cases(rows[0].first.config)
    measure(models, cases, dataset.item_num).after       # (trainings, users, layers, heads, len(NAMES))

Every function returns arrays; `find` gathers all of them and `write_page` makes the report.
"""

from recbole_attn.analysis.cases import Cases, load_cases, rows_of_users
from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.analysis.faithfulness import Erasures, erasures
from recbole_attn.analysis.findings import Findings, find
from recbole_attn.analysis.groups import Groups, group, paired
from recbole_attn.analysis.inside import look
from recbole_attn.analysis.maps import Maps, average_maps, user_maps
from recbole_attn.analysis.measures import NAMES, Measures, measure
from recbole_attn.analysis.noise import disturb, erase
from recbole_attn.analysis.page import write_page
from recbole_attn.analysis.robustness import Robustness, robustness
from recbole_attn.analysis.scores import ndcg, ranks
from recbole_attn.analysis.titles import read_titles
from recbole_attn.analysis.trained import Row, Trained, read_rows

__all__ = [
    "NAMES",
    "Cases",
    "Erasures",
    "Estimate",
    "Findings",
    "Groups",
    "Maps",
    "Measures",
    "Robustness",
    "Row",
    "Trained",
    "average_maps",
    "disturb",
    "erase",
    "erasures",
    "estimate",
    "find",
    "group",
    "load_cases",
    "look",
    "measure",
    "ndcg",
    "paired",
    "ranks",
    "read_rows",
    "read_titles",
    "robustness",
    "rows_of_users",
    "user_maps",
    "write_page",
]
