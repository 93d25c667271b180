"""Train, evaluate and use the models: `python run_recbole_attn.py --model=AWRSR --dataset=ml-100k`, or `--help`."""

import sys

from recbole_attn.cli import main

if __name__ == "__main__":
    sys.exit(main())
