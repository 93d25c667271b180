"""Run the README's main command in full and hold what it finds against the committed result.

    python benchmarks/reproduce.py             compare; exit code 1 where a metric is further away than its tolerance
    python benchmarks/reproduce.py --record    write the result that later runs are compared with

On the machine of the committed result the numbers are the same to the last digit; another processor, thread count or
torch rounds otherwise, and training amplifies that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

EXPECTED = Path(__file__).parent / "results" / "reproduce.json"
TOLERANCE = {"recall@10": 0.02, "ndcg@10": 0.01}  # about two standard errors of a metric over 943 users


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the result instead of comparing with it")
    record = parser.parse_args().record
    found = run_main_command()
    if record:
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    far = [name for name, most in TOLERANCE.items() if abs(found["test"][name] - expected["test"][name]) > most]
    for name, tolerance in TOLERANCE.items():
        print(f"{name}: {found['test'][name]:.4f}, expected {expected['test'][name]:.4f} within {tolerance}")
    return int(bool(far))


def run_main_command() -> dict:
    """What `run_recbole_attn.py --model=AWRSR --dataset=ml-100k` finds, and the minutes it takes."""
    import torch

    from recbole_attn.config.settings import load_settings
    from recbole_attn.run import run

    start = time.monotonic()
    result = run(load_settings("AWRSR", "ml-100k").config)
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    kept = {name: value for name, value in result._asdict().items() if name not in ("checkpoint", "history")}
    return {**kept, "minutes": round((time.monotonic() - start) / 60, 1), "machine": machine}


if __name__ == "__main__":
    sys.exit(main())
