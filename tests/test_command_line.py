"""The command line: forms of options, types of values, mistakes."""

import shlex

import pytest

from recbole_attn.config.command_line import parse_command_line, run_options, spell, typed
from recbole_attn.config.layers import schema_of
from recbole_attn.config.names import recbole_models
from recbole_attn.errors import UserError


def test_both_forms_give_the_same_settings():
    spaced = parse_command_line(["--learning_rate", "1e-3", "--topk", "[1, 5]"])
    assert spaced == parse_command_line(["--learning_rate=1e-3", "--topk=[1, 5]"])
    assert spaced == {"learning_rate": 0.001, "topk": [1, 5]}


def test_dots_nest():
    options = parse_command_line(
        ["--eval_args.mode=uni100", "--eval_args.split.LS=test_only", "--eval_args.order", "TO"]
    )
    assert options == {"eval_args": {"mode": "uni100", "split": {"LS": "test_only"}, "order": "TO"}}


def test_a_mapping_and_its_nested_key_add_up():
    assert parse_command_line(["--eval_args={order: TO}", "--eval_args.mode=full"]) == {
        "eval_args": {"order": "TO", "mode": "full"}
    }


def test_a_value_may_contain_equals_signs_and_start_with_a_dash():
    assert parse_command_line(["--data_path=/a=b/c=d", "--margin", "-1"]) == {"data_path": "/a=b/c=d", "margin": -1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2E5", 200000.0),
        (".5", 0.5),
        ("7", 7),
        ("True", True),
        ("false", False),
        ("None", None),
        ("~", None),
        ("", ""),
        (" ", " "),
        ("[5,inf)", "[5,inf)"),
        ("[0.8,0.1,0.1]", [0.8, 0.1, 0.1]),
        ("['Recall','MRR']", ["Recall", "MRR"]),
        ("{'RS':[0.8,0.1,0.1]}", {"RS": [0.8, 0.1, 0.1]}),
        ("[None, True]", [None, True]),
        ("'5'", "5"),
        ("01", "01"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("a: b #1", "a: b #1"),
        ("0,1", "0,1"),
        ("1/0", "1/0"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values_are_typed_without_being_run(text, value):
    assert typed(text) == value
    assert type(typed(text)) is type(value)


def test_a_flag_needs_no_value_and_takes_none():
    options = parse_command_line(["--show_config", "--epochs=1", "-h"])
    assert options == {"show_config": True, "epochs": 1, "help": True}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs"], "--epochs has no value: write --epochs=value"),
        (["--epochs", "--seed=1"], "--epochs has no value: write --epochs=value"),
        (["AWRSR"], "'AWRSR' is not an option: write --setting=value"),
        (["--help", "me"], "'me' is not an option: write --setting=value"),
        (["-epochs=1"], "'-epochs=1' is not an option: write --setting=value"),
        (["--=1"], "'--=1' is not an option: write --setting=value"),
        (["--epochs=1", "--epochs=2"], "--epochs is given twice, as 1 and as 2: give it once"),
        (["--eval_args=full", "--eval_args.mode=full"], "--eval_args.mode and --eval_args=full contradict each other"),
        (["--k=0"], "k = 0 (command line) is not allowed: it must be int >= 1"),
    ],
)
def test_mistakes_are_named(argv, message):
    with pytest.raises(UserError) as caught:
        parse_command_line(argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_repeating_an_option_with_the_same_value_is_harmless():
    assert parse_command_line(["--epochs=1", "--epochs", "1"]) == {"epochs": 1}


def test_only_options_of_predicting_share_a_name_with_a_setting():
    for model in recbole_models():
        try:
            settings = set(schema_of(model, "ml-1m").settings)
        except UserError:
            continue  # a package is missing
        assert set(run_options()) & settings <= {"k"}


def test_a_command_line_that_is_spelt_again_means_the_same():
    words = [
        "--model=SASRec,AWRSR",
        "--AWRSR.refinement=value",
        "--eval_args.split={TS: [.8, .1, .1]}",
        "--topk=[1, 5]",
    ]
    words += ["--gpu_id=", "--learning_rate=1e-3", "--rerun", "--name=it's mine"]
    options = parse_command_line(words)
    assert parse_command_line(shlex.split(spell(options))[2:]) == options
