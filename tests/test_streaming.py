"""Evaluation in chunks of items is RecBole's: the same record, the same metrics, the same ranks."""

import pytest
import torch
from mechanisms import Largest
from recbole.evaluator import Collector
from recbole.trainer import Trainer
from runs import command, write_chains

from recbole_attn import protocol, streaming
from recbole_attn.cli import main
from recbole_attn.compare.ranks import RankCollector
from recbole_attn.config.settings import load_settings
from recbole_attn.model import MODELS
from recbole_attn.ranking import Scores
from recbole_attn.run import make_trainer
from recbole_attn.streaming import StreamingCollector, StreamingTrainer, TieCollector, record, states_of

METRICS = ["Recall", "NDCG", "MRR", "Hit", "MAP", "Precision", "ShannonEntropy"]
CONFIG = {"metrics": METRICS, "topk": [1, 5], "eval_args": {"mode": {"test": "full"}}, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    write_chains(folder)
    return folder


def prepared(folder, model, **changes):
    """A trainer of untrained weights, and its test loader."""
    small = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 8, "eval_batch_size": 16}
    values = {**small, "data_path": str(folder), "checkpoint_dir": str(folder / "saved"), "use_gpu": False}
    values.update(metrics=METRICS, topk=[1, 5], valid_metric="NDCG@5", state="ERROR", **changes)
    config = load_settings(model, "chains", config_dict=values).config
    train, _, test = protocol.loaders(config, protocol.load(config))
    return make_trainer(config, train.dataset), test


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_metrics_in_chunks_are_those_of_recboles_own_path(folder, model, chunk, monkeypatch):
    trainer, test = prepared(folder, model, item_chunk=chunk)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight)  # no ties, no near ties
    seen = []
    monkeypatch.setattr(StreamingCollector, "eval_batch_collect", watched(StreamingCollector, seen))
    ours = trainer.evaluate(test, load_best_model=False)
    assert {type(scores) for scores in seen} == {Scores}
    trainer.eval_collector = Collector(trainer.config)
    monkeypatch.setattr(StreamingTrainer, "_full_sort_batch_eval", Trainer._full_sort_batch_eval)
    assert ours == trainer.evaluate(test, load_best_model=False)


def watched(owner, seen):
    original = owner.eval_batch_collect

    def collect(self, scores, *others):
        seen.append(scores)
        original(self, scores, *others)

    return collect


@pytest.mark.parametrize("model", MODELS)
def test_histories_are_encoded_with_others_of_like_length_and_nothing_changes(folder, model, monkeypatch):
    trainer, test = prepared(folder, model, eval_batch_size=64)
    batch, *_ = next(iter(test))
    trainer.model.eval()
    seen, user_state = [], trainer.model.user_state
    monkeypatch.setattr(streaming, "_TOGETHER", 5)
    monkeypatch.setattr(trainer.model, "user_state", lambda group: seen.append(group) or user_state(group))
    with torch.no_grad():
        whole, grouped = states_of(trainer.model, batch, trim=False), states_of(trainer.model, batch)
    torch.testing.assert_close(grouped, whole, rtol=1e-5, atol=1e-6)
    uncut, *groups = [(group["item_id_list"], group["item_length"]) for group in seen]
    assert torch.equal(uncut[0], batch["item_id_list"])
    assert [len(items) for items, _ in groups] == [5] * (len(batch) // 5) + [len(batch) % 5] * (len(batch) % 5 > 0)
    assert all(items.size(1) == lengths.max() for items, lengths in groups)
    assert torch.cat([lengths for _, lengths in groups]).diff().min() >= 0
    assert min(items.size(1) for items, _ in groups) < uncut[0].size(1)


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "SASRec"},
        {"model": "AttnSASRec", "metrics": ["NDCG", "GAUC"]},
        {"model": "AttnSASRec", "eval_args": {"mode": "uni5"}},
    ],
    ids=["RecBole's model", "a metric of all scores", "sampled candidates"],
)
def test_what_cannot_be_ranked_in_chunks_takes_recboles_path(folder, changes, monkeypatch):
    model = changes.pop("model")
    small = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "data_path": str(folder), "use_gpu": False}
    small.update(checkpoint_dir=str(folder / "saved"), topk=[1, 5], valid_metric="NDCG@5", state="ERROR", **changes)
    config = load_settings(model, "chains", config_dict=small).config
    train, _, test = protocol.loaders(config, protocol.load(config))
    trainer, seen = make_trainer(config, train.dataset), []
    monkeypatch.setattr(StreamingCollector, "eval_batch_collect", watched(StreamingCollector, seen))
    assert trainer.evaluate(test, load_best_model=False)
    assert {type(scores) for scores in seen} == {torch.Tensor}


def test_the_record_is_recboles_with_any_number_of_targets():
    scores = torch.randn(9, 30)
    users, targets = torch.tensor([0, 0, 2, 3, 3, 3, 3, 8]), torch.tensor([4, 7, 1, 2, 3, 2, 29, 29])
    scores[:, 0] = -torch.inf
    plain = Collector(CONFIG)
    plain.eval_batch_collect(scores.clone(), None, users, targets)
    ours = record(Scores.of_matrix(scores).top_k(5).items, users, targets, 30)
    assert torch.equal(ours, plain.data_struct.get("rec.topk"))


@pytest.mark.parametrize("levels", [None, 2], ids=["no ties", "ties"])
def test_a_matrix_is_recorded_as_by_recbole_in_the_order_of_its_ties_and_no_second_one_is_made(levels):
    scores, users, targets = torch.randn(40, 3000), torch.arange(40).repeat(2), torch.randint(1, 3000, (80,))
    scores = scores if levels is None else (scores * levels).round()
    scores[:, 0] = -torch.inf
    plain, ours = Collector(CONFIG), StreamingCollector(CONFIG)
    with Largest() as made:
        ours.eval_batch_collect(scores, None, users, targets)
    plain.eval_batch_collect(scores, None, users, targets)
    for name in ("rec.topk", "rec.items"):
        assert torch.equal(ours.data_struct.get(name), plain.data_struct.get(name))
    assert made.numbers < scores.numel() / 100


@pytest.mark.parametrize("levels", [None, 2], ids=["no ties", "ties"])
def test_ranks_and_ties_are_noted_alike_in_chunks_and_from_a_matrix(levels):
    matrix = torch.randn(40, 60)
    matrix = matrix if levels is None else (matrix * levels).round()
    matrix[:, 0] = -torch.inf
    targets, found = torch.randint(1, 60, (40,)), []
    lazy = Scores(lambda rows, first, last: matrix[rows, first:last].clone(), torch.arange(40), 60, 7)
    for scores in (matrix, lazy):
        collector = RankCollector(CONFIG)
        collector.eval_batch_collect(scores, None, torch.arange(40), targets)
        found.append((torch.cat(collector._rank), torch.cat(collector._tied)))
    (rank, tied), (lazy_rank, lazy_tied) = found
    assert torch.equal(tied, lazy_tied)
    assert (tied > 0).any() == (levels is not None)
    alike = tied == 0  # the place of a tied target is a matter of chance
    assert torch.equal(rank[alike], lazy_rank[alike])


@pytest.mark.parametrize("levels", [None, 2], ids=["no ties", "ties"])
def test_the_share_of_ties_is_that_of_all_targets(levels):
    matrix = torch.randn(40, 60)
    matrix = matrix if levels is None else (matrix * levels).round()
    matrix[:, 0] = -torch.inf
    targets, expected = torch.randint(1, 60, (40,)), 0
    for user, target in enumerate(targets):
        expected += (matrix[user] == matrix[user, target]).sum() > 1
    lazy = Scores(lambda rows, first, last: matrix[rows, first:last].clone(), torch.arange(40), 60, 7)
    for scores in (matrix, lazy):
        collector = TieCollector(CONFIG)
        for _ in range(2):  # batches
            collector.eval_batch_collect(scores, None, torch.arange(40), targets)
        assert collector.tie_share == expected / 40
    assert (expected > 0) == (levels is not None)


def test_rows_of_several_targets_leave_the_share_of_ties_open():
    collector = TieCollector(CONFIG)
    collector.eval_batch_collect(torch.zeros(2, 9), None, torch.tensor([0, 0, 1]), torch.tensor([3, 4, 5]))
    collector.eval_batch_collect(torch.zeros(2, 9), None, torch.tensor([0, 1]), torch.tensor([3, 4]))
    assert collector.tie_share is None


def test_a_run_says_how_many_targets_tie(folder, capsys, tmp_path, monkeypatch):
    """All items have the same codes."""
    monkeypatch.chdir(tmp_path)
    one_code = {"semantic_ids": str(tmp_path / "codes.tsv"), "model": "RPG", "dataset": "chains"}
    items = {line.split("\t")[1] for line in (folder / "chains" / "chains.inter").read_text().splitlines()[1:]}
    (tmp_path / "codes.tsv").write_text("".join(f"{item}\t0\t1\n" for item in sorted(items)))
    assert main(command(folder, epochs=1, **one_code)) == 0
    assert "ties        100.00% of test targets, whose rank is partly chance" in capsys.readouterr().out


def test_a_run_in_chunks_ends_as_one_without(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables = []
    for chunk in ("~", 3):
        assert main(command(folder, model="AttnSASRec", dataset="chains", epochs=1, item_chunk=chunk)) == 0
        printed = capsys.readouterr().out
        tables.append([line for line in printed.splitlines() if line.startswith(("validation", "test"))])
    assert tables[0] == tables[1]
