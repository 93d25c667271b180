"""`python -m recbole_attn`: the same as `run_recbole_attn.py` and the console script `recbole-attn`."""

import sys

from recbole_attn.cli import main

sys.exit(main())
