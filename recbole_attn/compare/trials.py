"""A trial: one row, one data set, one seed, with every setting resolved."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType

from recbole_attn import acceleration, protocol
from recbole_attn.compare import distributed
from recbole_attn.compare.fingerprint import fingerprint
from recbole_attn.compare.plan import Plan, Row
from recbole_attn.config.checks import require_model
from recbole_attn.config.layers import Layer, Stack, schema_of
from recbole_attn.config.names import recbole_models
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.model.named_files import named_files
from recbole_attn.model.semantic import check_item_data
from recbole_attn.model.semantic_settings import SETTINGS
from recbole_attn.run import build_on_two_items

STRICT = (
    *("eval_args", "time_order", "repeatable", "metrics", "topk", "valid_metric", "epochs", "stopping_step"),
    *("eval_step", "benchmark_filename", "rm_dup_inter", "val_interval", "filter_inter_by_user_or_item"),
    *("user_inter_num_interval", "item_inter_num_interval", "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"),
    "metric_decimal_place",
)
COMPARED = (
    *("MAX_ITEM_LIST_LENGTH", "train_batch_size", "eval_batch_size", "loss_type", "train_neg_sample_args"),
    *("learner", "learning_rate", "weight_decay", "clip_grad_norm", "training", "length_buckets", "shuffle"),
    *("precision", "enable_amp", "fast_dropout", "fast_gelu"),
)
UNFIT = {
    "RaCT": "is trained in three stages, each a run of its own",
    "S3Rec": "has to be pre-trained, in a run of its own",
    "GRU4RecKG": "needs vectors of entities (.ent)",
    "KSR": "needs vectors of entities and relations (.ent, .rel)",
}
WAYS = ("precision", "compile", "enable_amp", "device")  # what `acceleration.check` looks at, next to the model


class Trial(NamedTuple):
    """What one process trains and tests.

    Attributes:
        settings: everything above the property files, nested; `load_settings` makes the same config of it anywhere.
        protocol: the settings that every row of a comparison must share.
        compared: settings that may differ between rows, and are printed where they do.
        config: all settings as they came out, for the record.
        key: hash of all that the numbers depend on.
    """

    row: str
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    protocol: dict[str, Any]
    compared: dict[str, Any]
    config: dict[str, Any]
    key: str


def trials_of(plan: Plan, row: Row, chosen: Mapping[str, Layer] | None = None, seeds: int | None = None) -> list[Trial]:
    """The trials of one row: on every data set, with every seed. `chosen` has a data set's layer above all others.

    Raises:
        UserError: a setting, a model or a data set that is not there or does not fit; it names the row.
    """
    try:
        trials = []
        for dataset in plan.datasets:
            top = [chosen[dataset]] if chosen and dataset in chosen else []
            _refuse_own_seed([*row.layers, *top])
            layers = [*_shared(plan, row, dataset), *row.layers, *top]
            trials += _on_dataset(plan, row, dataset, layers, seeds or plan.seeds)
        return trials
    except UserError as error:
        raise UserError(f"row {row.name}: {error}") from error


def _refuse_own_seed(layers: Sequence[Layer]) -> None:
    """Seeds are repetitions: one that a row chose for itself would be chosen, or compared, for its luck."""
    for layer in layers:
        if "seed" in layer.values:
            raise UserError(
                f"seed = {layer.values['seed']} ({layer.origin}): all rows have the same seeds; say --seed=2020 and "
                "--seeds for all of them"
            )


def _shared(plan: Plan, row: Row, dataset: str) -> list[Layer]:
    """The shared layers without what this row's model does not have and another's has."""
    _require_fitting(row.model)
    others = set().union(*(_known(other.model, dataset) for other in plan.rows if other.model in _models()))
    dropped = others - _known(row.model, dataset)
    return [
        Layer(layer.origin, {key: value for key, value in layer.values.items() if key not in dropped})
        for layer in plan.shared
    ]


@functools.cache
def _known(model: str, dataset: str) -> frozenset[str]:
    """The settings that a model has."""
    return frozenset(schema_of(model, dataset).settings)


@functools.cache
def _models() -> set[str]:
    return {*MODELS, *(name for name, kind in recbole_models().items() if kind in ("sequential", "general"))}


def _require_fitting(model: str) -> None:
    require_model(model)
    if model in UNFIT:
        raise UserError(f"model = {model}: {UNFIT[model]}, which a comparison has no place for; leave it out")
    if model not in _models():
        raise UserError(f"{model} is a {recbole_models()[model]} model; sequential and general ones can be compared")


def _on_dataset(plan: Plan, row: Row, dataset: str, layers: Sequence[Layer], seeds: int) -> list[Trial]:
    config = load_settings(row.model, dataset, layers=layers).config
    if plan.devices is not None:
        config["device"] = _device_there(plan.devices, config["gpu_id"])
    _check_metrics(config)
    _check_test(config)
    _check_files(config)
    _check_model(config)
    distributed.check(config)
    if plan.devices is None:
        distributed.check_gpus(config)
    stack = Stack()
    for layer in layers:
        stack.lay(layer)
    data_path = Path(config["data_path"]).absolute()  # a link keeps its name, by which the files in it are named
    if not data_path.exists():
        protocol.load(config)  # downloads what RecBole knows, as a single run does, or says where files belong
    # A trial runs in a folder of its own, where a relative path would name something else.
    for name, path in named_files(config.final_config_dict).items():
        config[name] = stack.values[name] = str(path)
    values = {**stack.values, "data_path": str(data_path.parent)}
    return [_trial(row, dataset, config, values, config["seed"] + number, data_path) for number in range(seeds)]


def _device_there(types: Collection[str], gpu_id: str) -> torch.device:
    """The device of a trial on a cluster whose workers have these types; empty `gpu_id` asks for the CPU."""
    if not gpu_id:
        return torch.device("cpu")
    if len(types) > 1:
        raise UserError(
            "resources: some workers of the cluster have a GPU and some have none; start those of one kind with "
            "--resources 'GPU=1', or 'CPU=4', and ask for that, as in --resources='{GPU: 1}', or say --use_gpu=False"
        )
    return torch.device(*types)


def _check_metrics(config) -> None:
    if config["eval_type"] != EvaluatorType.RANKING:
        raise UserError(f"metrics = {config['metrics']}: a comparison needs ranking metrics, such as NDCG")
    if not has_rows(config["valid_metric"]):
        raise UserError(
            f"valid_metric = {config['valid_metric']}: a comparison pairs users, each with a value of this metric; "
            "use one of their lists, such as NDCG@10"
        )


def _check_files(config) -> None:
    """Refuse saved data, which no hash of the data set's files knows of, and codes that a trial would have to write."""
    for name in ("dataset_save_path", "dataloaders_save_path"):
        if config[name]:
            raise UserError(f"{name} = {config[name]}: a comparison reads the data set's own files; leave it out")
    table = config["semantic_ids"]
    if table and not Path(table).is_file():
        raise UserError(
            f"semantic_ids={table}: no such file, and one trial must not make the codes of the others; "
            "make it with a single run, or leave semantic_ids out, and each trial makes its own"
        )


def _check_test(config) -> None:
    """Refuse what would be found at the test of the first row that has trained: no rows, or several targets in one."""
    split, mode = config["eval_args"]["split"], config["eval_args"]["mode"]["test"]
    ((way, how),) = split.items()
    if how == "valid_only" or (way != "LS" and not how[2]):
        raise UserError(f"eval_args.split = {split}: leaves no rows to test on; use LS: valid_and_test or three ratios")
    if mode != "full" and way != "LS":
        raise UserError(
            f"eval_args.mode = {mode}: sampled candidates and several targets of one user, which {way} leaves to "
            f"{config['model']}; use eval_args.mode=full or split LS"
        )


def _check_model(config) -> None:
    """Find what a model refuses now; it would fail its row after others have trained.

    On the CPU: memory of a GPU, once used, would be held until the comparison ends, and a cluster's workers may have
    devices that this machine lacks. What a device cannot is found by `check_devices`, or by the trial.
    """
    device, config["device"] = config["device"], torch.device("cpu")
    build_on_two_items(config)
    config["device"] = device


def _trial(row: Row, dataset: str, config, values: Mapping[str, Any], seed: int, data_path: Path) -> Trial:
    final = {**resolved(config), "seed": seed}
    return Trial(
        row=row.name,
        model=row.model,
        dataset=dataset,
        seed=seed,
        settings={**values, "seed": seed},
        protocol={name: final.get(name) for name in STRICT},
        compared={name: final[name] for name in COMPARED if name in final},
        config=final,
        key=fingerprint(row.model, final, data_path),
    )


def check_devices(trials: Sequence[Trial]) -> None:
    """Find what this machine's device cannot, before a trial is run on it.

    Raises:
        UserError: bf16, AMP or compilation that it does not have; it names the row.
    """
    first: dict[tuple, Trial] = {}
    for trial in trials:
        first.setdefault((trial.model, *map(trial.config.get, WAYS)), trial)
    for trial in first.values():
        try:
            acceleration.check(_config(trial))
        except UserError as error:
            raise UserError(f"row {trial.row}: {error}") from error


def check_data(trials: Sequence[Trial]) -> None:
    """Load and split the data of these trials, and read what semantic ids would be made of, one trial for all alike.

    Raises:
        UserError: what is wrong with the data, or with what the settings ask of them.
    """
    for dataset in dict.fromkeys(trial.dataset for trial in trials):
        here = [trial for trial in trials if trial.dataset == dataset]
        _split(here[0])
        first: dict[str, Trial] = {}
        for trial in here:
            if trial.model in MODELS and "n_codes" in trial.config:
                first.setdefault(repr([trial.config[name] for name in ("semantic_ids", *SETTINGS)]), trial)
        for trial in first.values():
            try:
                config, train = _split(trial)
                check_item_data(config, train)
            except UserError as error:
                raise UserError(f"row {trial.row}: {error}") from error


def _split(trial: Trial) -> tuple[Any, Any]:
    """The Config of a trial, and the training part of its data."""
    config = _config(trial)
    return config, protocol.loaders(config, protocol.load(config))[0].dataset


def _config(trial: Trial):
    return load_settings(trial.model, trial.dataset, layers=[Layer("trial", trial.settings)]).config


def has_rows(metric: str) -> bool:
    """Is this RecBole metric, such as NDCG@10, one of a user's list, so that each user has a value of it?"""
    kind = metrics_dict.get(metric.partition("@")[0].lower())
    return kind is not None and issubclass(kind, TopkMetric) and kind.metric_need == ["rec.topk"]


def resolved(config) -> dict[str, Any]:
    """All settings as they came out, as far as JSON can hold them, and the type of the device."""
    kinds = (str, int, float, bool, list, tuple, dict, type(None))
    values = config.final_config_dict.items()
    plain = {key: value for key, value in values if isinstance(value, kinds) and not hasattr(value, "value")}
    return {**plain, "device": config["device"].type}
