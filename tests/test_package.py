"""What a stranger installs: the files, the imports, and the commands of the README."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import BARE_PACKAGE, in_a_new_process

import recbole_attn
from recbole_attn.cli import main
from recbole_attn.model import MODELS
from recbole_attn.registry import properties_dir

ROOT = Path(__file__).parent.parent
SEMANTIC_IDS = ("interactions", "quantizers", "sentence", "stored", "table", "text")
FREE_OF_RECBOLE = (
    *("masks", "dropout", "attention", "encoder", "stochastic_encoder", "objective", "cross_entropy", "sampled"),
    *("ranking", "codes", "contrastive", "semantic_ids", *(f"semantic_ids.{name}" for name in SEMANTIC_IDS)),
)
QUICK = {"epochs": 1, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 5, "train_batch_size": 8192}
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", FREE_OF_RECBOLE)
def test_attention_is_usable_without_recbole(module, tmp_path):
    code = f"{BARE_PACKAGE}sys.modules['recbole'] = None  # every import of it fails\nimport recbole_attn.{module}"
    done = in_a_new_process(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_model_has_a_property_file():
    assert {path.stem for path in (properties_dir() / "model").glob("*.yaml")} == set(MODELS)


def test_a_wheel_brings_its_properties_and_commands(tmp_path):
    source = tmp_path / "source"  # a copy: a build folder that lies about would bring back modules that are gone
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "saved", "log*", "results", "__pycache__")
    shutil.copytree(ROOT, source, ignore=leave)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]  # with what is installed
    subprocess.run([*pip, "wheel", *alone, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    code = "import recbole_attn.registry as r; print(r.__file__); print(r.model_properties('AWRSR').read_text())"
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env=environment)  # fmt: skip
    where, _, properties = done.stdout.partition("\n")
    assert where.startswith(str(tmp_path / "site")), done.stderr
    assert yaml.safe_load(properties)["refinement"] == "value"
    assert (tmp_path / "site" / "bin" / "recbole-attn").exists()


def test_nothing_in_the_readme_waits_to_be_filled_in():
    assert not re.search(r"@[A-Z]+@", README)


def test_the_version_is_the_same_everywhere():
    assert f'version="{recbole_attn.__version__}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert f"## {recbole_attn.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """Every `python run_recbole_attn.py` line, in order and in one folder, cut to one epoch and small sizes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("n_heads: 4\n")
    (tmp_path / "histories.tsv").write_text("anna\t50 172\n")
    commands = re.findall(r"^ +python (run_recbole_attn\.py .+)$", README, flags=re.MULTILINE)
    assert len(commands) >= 7
    printed = {}
    for command in commands:  # the first in a process of its own; to start one takes long
        program, *words = _quick(command, tmp_path)
        if not printed:
            done = subprocess.run([sys.executable, "-W", "ignore", program, *words], capture_output=True, text=True)
            code, out, err = done.returncode, done.stdout, done.stderr
        else:
            code = main(words)
            out, err = capsys.readouterr()
        assert code == 0, f"{command}\n{err}"
        printed[command] = out
    (recommended,) = [printed[command] for command in commands if "--predict" in command]
    assert recommended.count("anna\t") == 10


def _quick(command, folder):
    program, *words = shlex.split(command)
    words = [re.sub(r"saved/RUN", lambda _: str(next(folder.glob("saved/AWRSR*"))), word) for word in words]
    words = [re.sub(r"^--(epochs|seeds)=.*", r"--\1=1", word) for word in words]
    if any(word.startswith("--model") for word in words):
        words += [f"--{key}={value}" for key, value in QUICK.items()]
    return [str(ROOT / program), *words]


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    """The snippets, against a checkpoint made for them."""
    monkeypatch.chdir(tmp_path)
    train = (
        "--model=AWRSR --dataset=ml-100k --epochs=1 --hidden_size=8 --MAX_ITEM_LIST_LENGTH=5 --train_batch_size=8192"
    )
    assert main(train.split()) == 0
    (checkpoint,) = tmp_path.glob("saved/*/best.pth")
    blocks = re.findall(r"((?:^ {6}(?:from|import|recommend|run_recbole).*\n)+)", README, flags=re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        code = re.sub(r"^ {6}", "", block, flags=re.MULTILINE).replace("saved/RUN/best.pth", str(checkpoint))
        code = code.replace('dataset="ml-100k")', f'dataset="ml-100k", config_dict={QUICK})')
        done = in_a_new_process(code, tmp_path)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
