"""From layers to RecBole's Config: precedence, provenance, strictness."""

import copy
import pickle
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType, ModelType, get_model, get_trainer, init_seed

from recbole_attn.config.command_line import parse_command_line
from recbole_attn.config.describe import describe, help_text
from recbole_attn.config.settings import load_settings
from recbole_attn.errors import UserError

BASELINES = ["SASRec", "BERT4Rec", "GRU4Rec", "LightSANs", "NARM", "CORE", "Pop", "BPR", "ItemKNN"]


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """Places to put `epochs`, from the weakest to the strongest, with the origin each must report."""
    properties = tmp_path / "properties"
    for file in ("overall.yaml", "dataset/tiny.yaml", "model/AWRSR.yaml", "recbole.yaml", "run.yaml"):
        (properties / file).parent.mkdir(parents=True, exist_ok=True)
        (properties / file).write_text("")
    declared = "time_order: file  # (file) Order.\nmetrics: [NDCG]\nvalid_metric: NDCG@10\nrepeatable: True\n"
    (properties / "overall.yaml").write_text(declared + "eval_args: {order: TO, split: {LS: valid_and_test}}\n")
    for module in ("layers", "names", "command_line", "describe"):
        monkeypatch.setattr(f"recbole_attn.config.{module}.properties_dir", lambda: properties)
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    for file in (first, second):
        file.write_text("")
    files = [properties / "overall.yaml", properties / "dataset/tiny.yaml", properties / "model/AWRSR.yaml"]
    origins = ["properties/overall.yaml", "properties/dataset/tiny.yaml", "properties/model/AWRSR.yaml"]
    return [*zip(origins, files), (str(first), first), (str(second), second), ("config dict", {}), ("command line", {})]


def put(place, value):
    if isinstance(place, dict):
        place["epochs"] = value
    else:
        place.write_text(place.read_text() + f"epochs: {value}  # (int) Epochs.\nloss_type: CE  # (CE) Loss.\n")


@pytest.mark.parametrize(("weak", "strong"), [(weak, strong) for strong in range(7) for weak in range(strong)])
def test_the_stronger_layer_wins_and_is_named(layers, weak, strong):
    if strong < 2:
        layers[2][1].write_text("loss_type: CE  # (CE) Loss.\n")
    put(layers[weak][1], 111)
    put(layers[strong][1], 222)
    if weak > 2:
        layers[2][1].write_text("loss_type: CE  # (CE) Loss.\n")
    files = [layers[3][1], layers[4][1]]
    settings = load_settings("AWRSR", "tiny", files, layers[5][1], layers[6][1])
    assert settings.config["epochs"] == 222
    assert settings.origins["epochs"] == layers[strong][0]


def test_recboles_default_stands_where_nobody_speaks():
    settings = load_settings("SASRec", "ml-100k")
    assert settings.config["learning_rate"] == 0.001
    assert settings.origins["learning_rate"] == "recbole properties/overall.yaml"
    assert settings.origins["n_layers"] == "recbole properties/model/SASRec.yaml"
    assert settings.config["epochs"] == 200
    assert settings.origins["epochs"] == "properties/overall.yaml"


def test_nested_settings_merge_key_by_key_with_an_origin_each():
    spoken = parse_command_line(["--eval_args.mode=uni100"])
    settings = load_settings("AWRSR", "ml-100k", config_dict={"eval_args": {"group_by": None}}, command_line=spoken)
    assert settings.config["eval_args"] == {
        "split": {"LS": "valid_and_test"},
        "order": "TO",
        "group_by": None,
        "mode": {"valid": "uni100", "test": "uni100"},
    }
    assert settings.origins["eval_args.mode"] == "command line"
    assert settings.origins["eval_args.group_by"] == "config dict"
    assert settings.origins["eval_args.order"] == "properties/overall.yaml"


def test_another_split_replaces_the_protocols():
    settings = load_settings("BPR", "ml-100k", command_line=parse_command_line(["--eval_args.split.RS=[.8,.1,.1]"]))
    assert settings.config["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert "eval_args.split.LS" not in settings.origins


def test_a_mode_for_validation_leaves_the_test_as_it_was():
    settings = load_settings("BPR", "ml-100k", command_line=parse_command_line(["--eval_args.mode.valid=uni100"]))
    assert settings.config["eval_args"]["mode"] == {"valid": "uni100", "test": "full"}
    assert settings.origins["eval_args.mode.test"] == "properties/overall.yaml"


def test_lists_of_columns_are_replaced_and_other_files_columns_stay():
    given = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}}
    config = load_settings("SASRecF", "ml-100k", config_dict=given).config
    assert config["load_col"] == given["load_col"]
    kept = load_settings("SASRecF", "ml-100k").config["load_col"]
    assert kept["item"] == ["item_id", "release_year", "class"]


def test_time_is_loaded_for_a_data_set_without_property_file():
    settings = load_settings("AWRSR", "my-own-logs")
    assert settings.config["load_col"]["inter"] == ["user_id", "item_id", "timestamp"]
    assert "timestamp added" in settings.origins["load_col.inter"]
    by_file = load_settings("AWRSR", "my-own-logs", config_dict={"time_order": "file", "ITEM_ID_FIELD": "song"})
    assert by_file.config["load_col"]["inter"] == ["user_id", "item_id", "song"]


def test_neither_arguments_nor_argv_matter_or_change(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=3", "--nonsense", "--model=Pop"])
    given, spoken = {"eval_args": {"mode": "uni100"}, "topk": "[10]"}, {"epochs": 5, "eval_args": {"order": "TO"}}
    before = copy.deepcopy((given, spoken))
    config = load_settings("SASRec", "ml-100k", config_dict=given, command_line=spoken).config
    assert (given, spoken) == before
    assert (config["epochs"], config["model"], config["topk"]) == (5, "SASRec", [10])
    assert sys.argv[1] == "--epochs=3"


def test_strings_are_never_run(tmp_path):
    folder = "__import__('os').getcwd()"
    config = load_settings("SASRec", "ml-100k", config_dict={"checkpoint_dir": folder}).config
    assert config["checkpoint_dir"] == folder


def test_the_config_is_recboles_own_class_and_can_be_pickled():
    config = pickle.loads(pickle.dumps(load_settings("AWRSR", "ml-100k").config))
    assert type(config) is Config
    assert config["epochs"] == 200


def test_model_and_data_set_may_stand_in_a_file_or_on_the_command_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: BPR\ndataset: ml-100k\n")
    assert load_settings(config_files=[file]).config["model"] == "BPR"
    assert load_settings(config_files=str(file)).config["dataset"] == "ml-100k"
    assert load_settings("Pop", config_files=[file]).config["model"] == "Pop"
    assert load_settings("Pop", config_files=[file], command_line={"model": "NARM"}).config["model"] == "NARM"
    assert load_settings(command_line={"config_files": str(file), "show_config": True}).config["model"] == "BPR"
    with pytest.raises(UserError, match="no dataset is given: say --dataset=ml-100k"):
        load_settings("Pop")


@pytest.mark.parametrize("model", BASELINES)
def test_recboles_baselines_get_the_protocol(model):
    config = load_settings(model, "ml-100k").config
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert (config["eval_args"]["order"], config["repeatable"], config["valid_metric"]) == ("TO", True, "NDCG@10")
    assert (config["epochs"], config["seed"], config["topk"]) == (200, 2020, [1, 5, 10, 20])
    sampled = config["train_neg_sample_args"]["distribution"]
    assert sampled == ("none" if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else "uniform")


def test_a_general_model_runs_under_the_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings("Pop", "ml-100k", config_dict={"show_progress": False, "eval_batch_size": 10**6})
    config = settings.config
    init_seed(config["seed"], True)
    train, valid, test = data_preparation(config, create_dataset(config))
    trainer = get_trainer(config["MODEL_TYPE"], "Pop")(config, get_model("Pop")(config, train.dataset))
    trainer.fit(train, valid, saved=False, show_progress=False)
    result = trainer.evaluate(test, load_best_model=False)
    assert 0 < result["ndcg@10"] < result["recall@20"] < 1


def test_negative_sampling_follows_the_loss_unless_the_user_decides():
    entropy = load_settings("SASRec", "ml-100k")
    assert entropy.config["train_neg_sample_args"]["distribution"] == "none"
    assert entropy.origins["train_neg_sample_args"] == "loss_type = CE"
    ranking = load_settings("AWRSR", "ml-100k", config_dict={"loss_type": "BPR"}).config
    assert (ranking["train_neg_sample_args"]["sample_num"], ranking["MODEL_INPUT_TYPE"].name) == (1, "PAIRWISE")
    popular = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "popularity"}}
    own = load_settings("SASRec", "ml-100k", config_dict=popular)
    assert own.config["train_neg_sample_args"]["distribution"] == "popularity"


def test_ml_100k_comes_from_a_folder_of_the_users_if_it_is_there(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    own = load_settings("Pop", "ml-100k", config_dict={"data_path": str(tmp_path)})
    assert own.config["data_path"] == str(tmp_path / "ml-100k")
    packaged = load_settings("Pop", "ml-100k", config_dict={"data_path": str(tmp_path / "elsewhere")})
    assert packaged.config["data_path"].endswith("dataset_example/ml-100k")
    assert packaged.origins["data_path"] == "recbole, which ships ml-100k"


@pytest.mark.parametrize("model", ["Pop", "AWRSR"])
def test_a_resumed_run_reads_the_ml_100k_that_the_run_read(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    first = pickle.loads(pickle.dumps(load_settings(model, "ml-100k").config))
    asked = load_settings(model, "ml-100k", config_dict={"data_path": "dataset"}).config
    (tmp_path / "dataset" / "ml-100k").mkdir(parents=True)
    own = load_settings(model, "ml-100k", config_dict={"data_path": "dataset"}).config
    for config, folder in ((first, first["data_path"]), (asked, first["data_path"]), (own, "dataset/ml-100k")):
        assert load_settings(model, "ml-100k", config_dict=config.external_config_dict).config["data_path"] == folder
    moved = load_settings(
        model, "ml-100k", config_dict=first.external_config_dict, command_line={"data_path": "dataset"}
    )
    assert moved.config["data_path"] == "dataset/ml-100k"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--learnig_rate=1", "unknown setting 'learnig_rate' (command line): did you mean 'learning_rate'?"),
        ("--eval_args.grup_by=user", "'eval_args.grup_by' (command line): did you mean 'eval_args.group_by'?"),
        ("--train_neg_sample_args.distributon=uniform", "did you mean 'train_neg_sample_args.distribution'?"),
        ("--eval_args.split.SL=test_only", "unknown setting 'eval_args.split.SL'"),
        ("--config_file=a.yaml", "did you mean 'config_files'?"),
        ("--xyzzy=1", "unknown setting 'xyzzy' (command line): --help says where the settings are documented"),
        (
            "--mask_ratio=.1",
            "setting 'mask_ratio' (command line) is not one of AWRSR; "
            "it belongs to ACBERT4Rec, AttnBERT4Rec, BERT4Rec, S3Rec",
        ),
        ("--contrast=un", "it belongs to FEARec"),
        ("--n_layers=0", "n_layers = 0 (command line) is not allowed: it must be int >= 1"),
        (
            "--hidden_dropout_prob=1",
            "hidden_dropout_prob = 1 (command line) is not allowed: it must be float in [0, 1)",
        ),
        ("--epochs=many", "epochs = 'many' (command line) is not allowed: it must be int >= 1"),
        ("--learning_rate=0", "learning_rate = 0 (command line) is not allowed: it must be float > 0"),
        ("--MAX_ITEM_LIST_LENGTH=0", "MAX_ITEM_LIST_LENGTH = 0 (command line) is not allowed: it must be int >= 1"),
        ("--worker=-1", "worker = -1"),
        ("--topk=[1,0]", "topk = [1, 0]"),
        ("--length_buckets=0", "length_buckets = 0 (command line) is not allowed: it must be none | int >= 1"),
        ("--time_order=exakt", "it must be exact | recbole | file"),
        ("--eval_args.mode=ful", "it must be full | labeled | uni<int> | pop<int>"),
        ("--eval_args.mode=uni0", "eval_args.mode = 'uni0' (command line) is not allowed"),
        ("--eval_args.mode.valid=ful", "eval_args.mode.valid = 'ful'"),
        ("--user_inter_num_interval=5", "it must be none | interval"),
        ("--loss_type=MSE", "loss_type = 'MSE' (command line) is not allowed: it must be CE | BPR"),
        ("--valid_metric=MRR@11", "valid_metric = MRR@11 (command line) is not measured: it must be one of Recall@1"),
        ("--topk=20", "valid_metric = NDCG@10 (properties/overall.yaml) is not measured"),
        ("--metrics=[Recal]", "metrics = Recal (command line) is no metric: did you mean 'Recall'?"),
        ("--metrics=[NDCG, ItemCoverage]", "metrics = ItemCoverage (command line): RecBole fails on this metric"),
        ("--eval_args.split={TS: [.8, .2]}", "eval_args.split.TS = [0.8, 0.2] (command line) must be three ratios"),
        ("--eval_args.split.RS=[.8, .2]", "eval_args.split.RS = [0.8, 0.2] (command line) must be three ratios"),
        ("--eval_args.split={RS: [0, .5, .5]}", "must be three ratios, those of training (above 0)"),
        ("--eval_args.split={RS: [.8, -1, .1]}", "eval_args.split.RS = [0.8, -1, 0.1]"),
        ("--clip_grad_norm={max_nrm: 3}", "'clip_grad_norm.max_nrm' (command line): did you mean 'clip_grad_norm.max_"),
        ("--clip_grad_norm.norm_type=1", "clip_grad_norm = {'norm_type': 1} has no max_norm"),
        ("--eval_args.split={LS: test_only, RS: [.5, .5]}", "must name exactly one way of splitting"),
        ("--eval_args.order=RO", "eval_args.order = RO (command line): AWRSR needs TO"),
        ("--repeatable=False", "RecBole refuses these settings: Sequential models currently only support"),
        ("--train_neg_sample_args={distribution: uniform}", "contradicts loss_type = CE: set it to ~"),
        ("--threshold={timestamp: high}", "threshold = {'timestamp': 'high'}: must be one column and a number, as in"),
        ("--threshold={a: 1, b: 2}", "threshold = {'a': 1, 'b': 2}: must be one column and a number"),
        ("--log_wandb=True", "log_wandb = True: wandb is not installed; pip install wandb"),
        ("--model=sasrec", "there is no model 'sasrec': did you mean 'SASRec'"),
        ("--model=AWRS", "there is no model 'AWRS': did you mean 'AWRSR' or 'AWRSTOSA'?"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(option, message):
    with pytest.raises(UserError) as caught:
        load_settings("AWRSR", "ml-100k", command_line=parse_command_line([option]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", metrics_dict.values(), ids=lambda metric: metric.__name__)
def test_a_metric_is_refused_or_can_be_collected(metric):
    name = metric.__name__
    given = {"metrics": [name], "topk": [3], "valid_metric": name if name == "GAUC" else f"{name}@3"}
    if metric.metric_type == EvaluatorType.VALUE:
        given.update({"valid_metric": name, "eval_args": {"mode": "labeled"}})
    try:
        config = load_settings("Pop", "ml-100k", config_dict=given).config
    except UserError as error:
        assert "fails on this metric" in str(error)
        assert name in ("AveragePopularity", "GiniIndex", "ItemCoverage", "TailPercentage")
        return
    collector = Collector(config)
    collector.data_collect(SimpleNamespace(dataset=SimpleNamespace(num=lambda field: 9)))
    scores, target = torch.randn(5, 9, generator=torch.Generator().manual_seed(1)), torch.arange(5)
    collector.eval_batch_collect(scores, Interaction({config["LABEL_FIELD"]: target % 2}), target, target + 1)
    assert collector.get_data_struct()


@pytest.mark.parametrize(
    "drawn",
    [{"distribution": "popularity"}, {"distribution": "uniform", "sample_num": 2}, {"dynamic": True}],
    ids=str,
)
def test_whole_sequences_refuse_negative_items_that_they_do_not_draw(drawn):
    given = {"loss_type": "BPR", "training": "sequence"}
    config = load_settings("AttnSASRec", "ml-100k", config_dict=given).config
    assert config["training"] == "sequence"
    with pytest.raises(UserError, match=r"^train_neg_sample_args = .*draws one uniform negative item") as caught:
        load_settings("AttnSASRec", "ml-100k", config_dict={**given, "train_neg_sample_args": drawn})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["FDSA", "GRU4RecF"])
def test_features_of_items_must_be_loaded(model):
    given = {"load_col": {"item": ["item_id", "class"]}}
    assert load_settings(model, "ml-100k", config_dict=given).config["selected_features"] == ["class"]
    with pytest.raises(UserError, match=r"leaves out class; say --load_col.item=\[item_id,class\]"):
        load_settings(model, "my-own-logs")
    everything = {"load_col": None}
    assert load_settings(model, "my-own-logs", config_dict=everything).config["load_col"] is None


def test_a_loss_that_recbole_cannot_feed_is_refused():
    with pytest.raises(UserError, match=r"'BCE' \(config dict\) is no loss that BERT4Rec trains with"):
        load_settings("BERT4Rec", "ml-100k", config_dict={"loss_type": "BCE"})


def test_nested_names_of_columns_are_the_users_own():
    given = {"val_interval": {"stars": "[3,inf)"}, "threshold": {"stars": 4}, "load_col": {"item": ["item_id", "x"]}}
    config = load_settings("AWRSR", "ml-1m", config_dict=given).config
    assert config["val_interval"] == {"stars": "[3,inf)"}
    assert config["load_col"]["item"] == ["item_id", "x"]


def test_options_of_predicting_are_no_settings_but_k_is_one_of_itemknn():
    assert load_settings("ItemKNN", "ml-100k", command_line=parse_command_line(["--k=7"])).config["k"] == 7
    for option in ("--k=7", "--exclude_seen"):
        with pytest.raises(UserError, match=r"an option of certain commands|is not one of AWRSR"):
            load_settings("AWRSR", "ml-100k", command_line=parse_command_line([option]))


@pytest.mark.parametrize("model", ["AWRSR", "AttnSASRec", "FEARec", "GRU4RecCPR", *BASELINES])
def test_the_settings_of_a_checkpoint_load_again_to_the_same_config(model):
    spoken = {"checkpoint_dir": "saved/1e5", "gpu_id": "", "eval_args": {"mode": {"valid": "pop100"}}}
    first = load_settings(model, "ml-1m", config_dict=spoken).config
    again = load_settings(model, "ml-1m", config_dict=first.external_config_dict).config
    assert {key: str(value) for key, value in again.final_config_dict.items()} == {
        key: str(value) for key, value in first.final_config_dict.items()
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing.yaml: No such file or directory"),
        ("epochs: [1\nseed: 2\n", "missing.yaml, line 2: "),
        ("- epochs\n", "missing.yaml, line 1: expected lines of the form `setting: value`"),
        ("just words\n", "expected lines of the form"),
        ("epochs: 1\nseed: 2\nepochs: 3\n", "missing.yaml, line 3: 'epochs' is given twice"),
        ("epochs: !!python/object/apply:os.getcwd []\n", "missing.yaml, line 1: could not determine a constructor"),
        ("epoch: 1\n", "missing.yaml): did you mean 'epochs'?"),
        (b"epochs: \xff\n", "not a text file in UTF-8"),
        ("learning_rate: {{ lr }}\n", "missing.yaml, line 1: a setting's name must be plain text: {{ }} is a template"),
        ("seed: 2020-13-45\n", "seed = '2020-13-45' "),
    ],
)
def test_a_bad_config_file_is_named(tmp_path, content, message):
    file = tmp_path / "missing.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        load_settings("AWRSR", "ml-100k", [file])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [{"use_gpu": False}, {"gpu_id": ""}])
def test_who_wants_no_gpu_gets_none(given, monkeypatch):
    """RecBole 1.2.1 asks for its number alone."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert load_settings("AWRSR", "ml-100k", config_dict=given).config["device"].type == "cpu"
    assert load_settings("AWRSR", "ml-100k").config["device"].type == "cuda"


def test_a_resumed_run_may_move_to_the_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    saved = load_settings("AWRSR", "ml-100k", config_dict={"use_gpu": False}).config.external_config_dict
    again = partial(load_settings, "AWRSR", "ml-100k", config_dict=saved)
    assert again().config["device"].type == "cpu"
    assert again(command_line={"use_gpu": True}).config["device"].type == "cuda"
    with pytest.raises(UserError, match=r"gpu_id = 1 .*use_gpu = False asks for the CPU; say --use_gpu=True too"):
        again(command_line={"gpu_id": "1"})


def test_config_files_read_numbers_and_none_as_recbole_does(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("learning_rate: 1e-2\nuser_inter_num_interval: '[3,inf)'\nclip_grad_norm: None\n")
    config = load_settings("AWRSR", "ml-100k", [file]).config
    assert config["learning_rate"] == 0.01
    assert config["user_inter_num_interval"] == "[3,inf)"
    assert config["clip_grad_norm"] is None


def test_the_description_shows_each_value_with_its_origin():
    settings = load_settings("AWRSR", "amazon-beauty", command_line=parse_command_line(["--eval_args.mode=uni100"]))
    rows = {line.strip().split(" = ")[0]: line for line in describe(settings).splitlines() if " = " in line}
    assert rows["eval_args.mode"].endswith("[command line]")
    assert rows["train_batch_size"].split() == [
        "train_batch_size",
        "=",
        "256",
        "[properties/dataset/amazon-beauty.yaml]",
    ]
    assert rows["refinement"].endswith("[properties/model/AWRSR.yaml]")
    assert set(settings.origins) <= set(rows)


def test_help_lists_models_data_sets_options_and_where_settings_are_documented():
    text = help_text()
    for name in ("AWRSR", "AttnSASRec", "SASRec", "Pop", "amazon-sports-outdoors", "--resume=", "properties/model"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 130
