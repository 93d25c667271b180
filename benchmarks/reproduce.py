"""Run the README's main command in full and hold the result against the committed one.

    python benchmarks/reproduce.py

Exit code 1 where a test metric is further away than the tolerance. On the machine of the committed result the numbers
are the same to the last digit; another processor, thread count or torch rounds otherwise, and training amplifies that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from recbole_attn.run import run
from recbole_attn.settings import load_settings

EXPECTED = Path(__file__).parent / "results" / "reproduce.json"
TOLERANCE = {"recall@10": 0.02, "ndcg@10": 0.01}  # two standard errors of a metric over 943 users


def main() -> int:
    expected = json.loads(EXPECTED.read_text(encoding="utf-8")) if EXPECTED.exists() else None
    result = run(load_settings("AWRSR", "ml-100k").config)
    found = {"test": result.test, "best_epoch": result.best_epoch, "epochs": result.epochs}
    if expected is None:
        EXPECTED.parent.mkdir(exist_ok=True)
        EXPECTED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written: {EXPECTED}")
        return 0
    failed = False
    for name, tolerance in TOLERANCE.items():
        distance = abs(result.test[name] - expected["test"][name])
        failed |= distance > tolerance
        print(f"{name}: {result.test[name]:.4f}, expected {expected['test'][name]:.4f} within {tolerance}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
