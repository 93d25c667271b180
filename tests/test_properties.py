"""The property files: every line declares its setting, and every default passes its own check."""

import inspect
from pathlib import Path

import pytest
from recbole.data import create_dataset
from recbole.utils import get_model

from recbole_attn.config import schema
from recbole_attn.config.layers import schema_of
from recbole_attn.config.names import RECBOLE, models, read_values, recbole_models
from recbole_attn.config.settings import load_settings
from recbole_attn.config.value_types import convert
from recbole_attn.errors import UserError
from recbole_attn.model import MODELS
from recbole_attn.registry import model_properties, properties_dir

OURS = sorted(properties_dir().rglob("*.yaml"))
DATASETS = sorted(file.stem for file in (properties_dir() / "dataset").glob("*.yaml"))
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def declare(tmp_path, line):
    file = tmp_path / "one.yaml"
    file.write_text(line)
    return schema.read(file)


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
def test_each_key_has_a_meaning_and_a_default_that_it_allows(file):
    settings = schema.read(file)
    assert settings
    for setting in settings.values():
        parent = settings.get(setting.key.rpartition(".")[0])
        if isinstance(setting.default, dict) and not setting.types and "." not in setting.key:
            continue  # a section of recbole.yaml
        if parent is not None and parent.free and parent.types:
            continue  # a nested key of the user's, such as load_col.inter
        assert setting.types, setting.key
        assert setting.meaning.endswith("."), setting.key
        if file.name != "run.yaml" or setting.default is not None:
            setting.check(setting.default, str(file))


@pytest.mark.parametrize("file", sorted((RECBOLE / "properties" / "model").glob("*.yaml")), ids=lambda file: file.stem)
def test_recboles_own_defaults_are_allowed(file):
    if file.stem not in recbole_models():
        pytest.skip("RecBole reads this file on no case-sensitive disk")
    try:
        declared = schema_of(file.stem, "ml-1m")
    except UserError as error:
        pytest.skip(str(error))
    for key, value in read_values(file).items():
        assert str(declared.settings[key].check(value, "RecBole")) == str(value)


def test_every_key_that_recbole_reads_from_its_config_for_general_use_is_known():
    known = set(schema_of("SASRec", "ml-1m").settings)
    assert {"encoding", "tail_ratio", "nproc", "world_size", "worker", "numerical_features", "discretization"} <= known
    assert {"benchmark_filename", "transform", "clip_grad_norm", "enable_amp", "additional_feat_suffix"} <= known


def test_every_model_of_ours_has_its_property_file():
    assert {file.stem for file in (properties_dir() / "model").glob("*.yaml")} == set(MODELS)
    assert all(model_properties(name).is_file() for name in MODELS)


def test_the_list_of_models_is_what_recbole_finds():
    for name in ("SASRec", "BERT4Rec", "Pop", "Random", "GRU4RecCPR", "RaCT"):
        assert name in recbole_models()
        assert inspect.isclass(get_model(name))
    assert len(models()) == len(set(models()))


@pytest.mark.parametrize(
    ("line", "types", "meaning"),
    [
        ("a: 1  # (int >= 1) Text (more).", ("int >= 1",), "Text (more)."),
        ("a: .5  # (float in [0, 1)) Half open.", ("float in [0, 1)",), "Half open."),
        ("a: x  # (x | list of int >= 0 | none)\n       # goes on.", ("x", "list of int >= 0", "none"), "goes on."),
        ("a: '#'  # (str) A hash.", ("str",), "A hash."),
        ("a: []  # (list or None) RecBole's way.", ("list", "none"), "RecBole's way."),
        ("a: u1  # (uni<int> | full) Words.", ("uni<int>", "full"), "Words."),
        ("a: 1  # no type", (), "no type"),
    ],
)
def test_comments_are_read(tmp_path, line, types, meaning):
    setting = declare(tmp_path, line)["a"]
    assert (setting.types, setting.meaning) == (types, meaning)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", [0, -3, 5.0], [0.5, True, "5", None, float("inf")]),
        ("int >= 1", [1, 9], [0, -1]),
        ("float", [1, 0.5, 1e-12], ["0.5", True, None, float("nan")]),
        ("float in [0, 1)", [0, 0.999], [1, -0.001]),
        ("float in (0, 1]", [1, 0.001], [0, 1.001]),
        ("float > 0", [1e-12], [0]),
        ("bool", [True, False], [0, 1, "True"]),
        ("str", ["", "a"], [None, True, [], 1.5]),
        ("list of int >= 1", [[], [1, 2]], [[0], 1, "12", [1.5]]),
        ("list of list of str", [[["a"]]], [["a"]]),
        ("dict", [{}, {"a": 1}], [[], None]),
        ("CE", ["CE"], ["BPR", None, ["CE"]]),
        ("uni<int>", ["uni100"], ["uni", "unix", "uni100x"]),
        ("interval", ["[5,inf)", "(1, 2];[3,4)"], ["5", "[5;inf)", "[5,3]", 5, [1]]),
    ],
)
def test_types_admit_what_they_say(kind, good, bad):
    for value in good:
        assert convert(kind, value) == value
    for value in bad:
        with pytest.raises(ValueError):
            convert(kind, value)


def test_types_mend_what_is_meant():
    assert convert("CE", "ce") == "CE"
    assert convert("none", "None") is None
    assert convert("str", 2024) == "2024"
    assert convert("interval", [5, 10]) == "[5,10]"
    assert isinstance(convert("int", 10.0), int)


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_data_set_names_its_required_columns_and_loads_nothing_else(dataset):
    config = load_settings("AWRSR", dataset).config
    required = [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]]
    if config["time_order"] != "file":
        required.append(config["TIME_FIELD"])
    assert config["load_col"] == {"inter": required}


@pytest.mark.parametrize("dataset", ["ml-100k", "amazon-beauty", "amazon-toys-games", "ml-1m"])
def test_the_columns_are_those_of_the_files(dataset):
    config = load_settings("Pop", dataset, config_dict={"data_path": str(SHARED_DATA)}).config
    file = Path(config["data_path"]) / f"{dataset}.inter"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    with file.open(encoding="utf-8") as lines:
        columns = {column.partition(":")[0] for column in next(lines).rstrip("\n").split("\t")}
    assert set(config["load_col"]["inter"]) <= columns


def test_optional_columns_may_be_missing_from_the_file(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    rows = [f"{user}\t{item}\t{user + item}" for user in range(4) for item in range(5)]
    (folder / "logs.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    given = {"data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]}}
    dataset = create_dataset(load_settings("Pop", "logs", config_dict=given).config)
    assert dataset.inter_num == 20
    assert "rating" not in dataset.inter_feat
