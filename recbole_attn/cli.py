"""The command line: what `run_recbole_attn.py`, `python -m recbole_attn` and `recbole-attn` do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.compare.plan import is_comparison
from recbole_attn.compile_errors import could_not_compile, is_of_compiler
from recbole_attn.config.command_line import PREDICTION, parse_command_line, run_options
from recbole_attn.config.describe import describe, help_text
from recbole_attn.config.settings import Settings, load_settings
from recbole_attn.errors import UserError
from recbole_attn.matching import check_names
from recbole_attn.model.semantic import keep_semantic_ids
from recbole_attn.recommender import Recommender, ranks_histories, read_histories
from recbole_attn.resume import check_continuation
from recbole_attn.run import Result, run

INCOMPLETE, MISTAKE = 1, 2
# Options that a single run and a comparison take; `k` is a setting of some of RecBole's models as well.
_OF_ONE_RUN = {"model", "dataset", "config_files", "resume", "show_config", "help", "k"}
_OF_A_COMPARISON = {
    *("model", "dataset", "config_files", "seeds", "baseline", "name", "results", "jobs", "rerun"),
    *("report_only", "engine", "address", "resources", "show_config", "help", "k"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 1 where trials of a comparison failed; 2 after one line on stderr
    about the user's mistake.
    """
    try:
        options = parse_command_line(sys.argv[1:] if argv is None else argv)
        if not options.get("help") and not options.get("analyze") and is_comparison(options):
            return _compare(options)
        print(_answer(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("error: interrupted; what was saved before is kept", file=sys.stderr)
        return MISTAKE
    return 0


def _answer(options: dict[str, Any]) -> str:
    if options.get("help") or not options:
        return help_text()
    if options.get("analyze"):
        return _analyze(options)
    if options.get("predict") or options.get("checkpoint"):
        return _predict(options)
    _refuse_surplus(options, _OF_ONE_RUN, "a single run")
    settings = _settings(options)
    if options.get("show_config"):
        return describe(settings)
    return summary(_run(settings.config, options.get("resume")), ranks_histories(settings.config))


def _refuse_surplus(options: Mapping[str, Any], taken: set[str], command: str) -> None:
    surplus = sorted(set(options) & set(run_options()) - taken)
    if surplus:
        raise UserError(f"{surplus[0]}: has no effect on {command}; leave it out (--help says what it is for)")


def _run(config, resume: str | None) -> Result:
    try:
        return run(config, resume)
    except Exception as error:
        if is_of_compiler(error):  # found at the first batch: only compiling shows whether a compiler works
            raise UserError(could_not_compile(error)) from error
        raise


def _compare(options: Mapping[str, Any]) -> int:
    from recbole_attn.compare.command import compare  # brings scipy.stats, which one run does without

    if options.get("show_config"):
        raise UserError("show_config: shows the settings of one run; give it one model, one data set and no seeds")
    _refuse_surplus(options, _OF_A_COMPARISON, "a comparison")
    text, failed = compare(options)
    print(text)
    return INCOMPLETE if failed else 0


def _analyze(options: Mapping[str, Any]) -> str:
    from recbole_attn.analysis.command import analyze  # brings scipy and matplotlib, which one run does without

    return analyze(options)


def _settings(options: dict[str, Any]) -> Settings:
    """The settings of the command line; a resumed run brings its own, which the command line may change."""
    if not options.get("resume"):
        return load_settings(command_line=options)
    if options.get("config_files"):
        raise UserError(
            "config_files: has no effect on --resume, which takes the settings of its checkpoint; give those that "
            "change as --setting=value"
        )
    checkpoint = load_checkpoint(options["resume"])
    check_continuation(checkpoint, options["resume"])
    names = _names(checkpoint["config"])
    check_names(checkpoint, {**names, **options})
    saved = {**checkpoint["config"].external_config_dict, **names}
    settings = load_settings(config_dict=saved, command_line=options)
    keep_semantic_ids(checkpoint["config"], settings.config)
    return settings


def _names(config) -> dict[str, str]:
    return {name: config[name] for name in ("model", "dataset")}


def _predict(options: Mapping[str, Any]) -> str:
    """Recommendations as lines user <tab> item <tab> score."""
    for needed, example in (("predict", "histories.tsv"), ("checkpoint", "saved/.../best.pth")):
        if not options.get(needed):
            raise UserError(
                f"{needed}: missing; to recommend, give both --predict=FILE and --checkpoint=PATH, "
                f"as in --{needed}={example}"
            )
    surplus = sorted(set(options) - {*PREDICTION, "model", "dataset", "data_path"})
    if surplus:
        raise UserError(f"{surplus[0]}: has no effect on --predict, which takes all settings from the checkpoint")
    recommender = Recommender(options["checkpoint"], data_path=options.get("data_path"))
    check_names({"config": recommender.config}, {**_names(recommender.config), **options})
    defaults = run_options()
    k, exclude_seen = (options.get(name, defaults[name].default) for name in ("k", "exclude_seen"))
    answers = recommender.recommend(read_histories(options["predict"]), k, exclude_seen)
    return "\n".join(f"{user}\t{item}\t{score:.6g}" for user, best in answers.items() for item, score in best)


def summary(result: Result, usable: bool) -> str:
    """The last words of a run: what came out, where it lies, and how to use it where it can recommend to new users."""
    use = f"python -m recbole_attn --checkpoint={result.checkpoint} --predict=HISTORIES.tsv --k=10"
    best = f"epoch {result.best_epoch} of {result.epochs} ({result.stop_reason})"
    speed = f"{result.seconds_per_epoch:.1f} s an epoch, {result.parameters:,} parameters"
    return "\n".join(
        [
            "",
            f"{result.model} on {result.dataset}: best on validation in {best}; {speed}",
            *_table({"validation": result.valid, "test": result.test}),
            *_ties(result.tie_share),
            f"checkpoint  {result.checkpoint}",
            *([f"use it      {use}"] if usable else []),
        ]
    )


def _ties(share: float | None) -> list[str]:
    if share is None:
        return []
    return [f"ties        {share:.2%} of test targets" + (", whose rank is partly chance" if share else "")]


def _table(results: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One line for each metric and part, one column for each cut-off."""
    rows: dict[str, dict[str, float]] = {}
    for part, metrics in results.items():
        for name, value in metrics.items():
            metric, _, cut = name.partition("@")
            rows.setdefault(f"{part:<12}{metric}", {})[cut] = value
    cuts = list(dict.fromkeys(cut for row in rows.values() for cut in row))
    head = f"{'':<24}" + "".join(f"{'@' + cut if cut else '':>9}" for cut in cuts)
    return [head, *(f"{name:<24}" + "".join(f"{row.get(cut, ''):>9.6}" for cut in cuts) for name, row in rows.items())]
