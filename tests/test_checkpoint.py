"""A checkpoint is written whole or not at all, and one that does not belong is refused in one line."""

import errno
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from processes import in_a_new_process

from recbole_attn.checkpoint import load_checkpoint, random_state, save_atomically, set_random_state
from recbole_attn.errors import UserError
from recbole_attn.matching import check_dataset, check_model

STATE = {"config": {"model": "SASRec"}, "state_dict": {"weight": torch.arange(6.0)}}


class FakeConfig(dict):
    """As much of RecBole's Config as a comparison reads."""

    @property
    def parameters(self):
        return {"General": ["seed"], "Training": ["epochs"], "Evaluation": ["topk"]}

    @property
    def final_config_dict(self):
        return dict(self)


def config(**changes):
    return FakeConfig({"model": "SASRec", "dataset": "toy", "hidden_size": 4, "epochs": 3, **changes})


def dataset(users=("[PAD]", "u1"), items=("[PAD]", "a", "b")):
    return SimpleNamespace(uid_field="user", iid_field="item", field2id_token={"user": users, "item": items})


def refusal(function, *args) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def old(tmp_path):
    """A folder that holds a good checkpoint."""
    path = tmp_path / "last.pth"
    save_atomically(STATE, path)
    return path


def assert_untouched(path):
    assert torch.equal(load_checkpoint(path)["state_dict"]["weight"], STATE["state_dict"]["weight"])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_was_saved_is_loaded_and_nothing_else_lies_beside_it(old):
    assert_untouched(old)


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, original=original: calls.append(name) or original(*args))
    save_atomically(STATE, tmp_path / "last.pth")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("values", [1, 3_000_000], ids=["small", "large"])
def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(old, monkeypatch, values):
    part = old.with_name("last.pth.part")
    part.symlink_to("/dev/full")
    text = refusal(save_atomically, {**STATE, "more": torch.zeros(values)}, old)
    assert str(old) in text and os.strerror(errno.ENOSPC) in text and "the one written before is kept" in text
    assert_untouched(old)


def test_a_disk_that_fills_up_during_the_write_leaves_no_part_of_a_file(tmp_path):
    path = tmp_path / "saved" / "last.pth"
    path.parent.mkdir()
    script = f"""
        import resource, torch
        from recbole_attn.checkpoint import save_atomically
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save_atomically({{"config": 0, "state_dict": torch.zeros(1_000_000)}}, {str(path)!r})
        except Exception as error:
            sys.exit(f"{{type(error).__name__}}: {{error}}")
    """
    done = in_a_new_process(script, tmp_path)
    assert done.stderr.splitlines()[-1].startswith(
        f"UserError: cannot write the checkpoint {path}: File too large; none"
    )
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_one_line(old, monkeypatch, code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code), str(old))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        text = refusal(save_atomically, STATE, old)
    assert os.strerror(code) in text and "make the folder writable" in text
    assert_untouched(old)


def test_a_folder_whose_place_a_file_takes_is_one_line(old):
    assert "cannot write the checkpoint" in refusal(save_atomically, STATE, old / "last.pth")


class Bomb:
    """Interrupts whoever pickles it."""

    def __reduce__(self):
        raise KeyboardInterrupt


def test_ctrl_c_during_a_write_is_passed_on_and_the_old_checkpoint_stays(old):
    with pytest.raises(KeyboardInterrupt):
        save_atomically({**STATE, "bomb": Bomb()}, old)
    assert_untouched(old)


def test_ctrl_c_inside_torchs_writer_stays_a_ctrl_c(old, monkeypatch):
    def interrupted(*args, **kwargs):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_atomically(STATE, old)
    assert_untouched(old)


def test_an_error_that_is_not_the_disks_is_not_called_one(old, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a mistake in a model")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="a mistake in a model"):
        save_atomically(STATE, old)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(load_checkpoint, tmp_path / "none.pth")
    assert "give the path of a best.pth or last.pth" in refusal(load_checkpoint, tmp_path)


def test_a_text_file_is_not_a_checkpoint(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("user_id:token\titem_id:token\n")
    assert "not a checkpoint" in refusal(load_checkpoint, path)


class Trap:
    """Says that it was unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a foreign pickle was executed",)


def test_a_foreign_pickle_is_refused_without_executing_it(tmp_path):
    path = tmp_path / "foreign.pth"
    path.write_bytes(pickle.dumps(Trap()))
    assert "not a checkpoint" in refusal(load_checkpoint, path)


@pytest.mark.parametrize("state", [[1, 2], {"weight": 1}, {"state_dict": {}}], ids=["list", "weights", "no config"])
def test_what_torch_saved_but_is_no_checkpoint_of_recbole_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "x.pth")
    assert "not a checkpoint of RecBole" in refusal(load_checkpoint, tmp_path / "x.pth")


def test_a_checkpoint_cut_off_anywhere_is_truncated(old):
    whole = old.read_bytes()
    for size in [0, 3, 30, len(whole) // 2, len(whole) - 1]:
        old.write_bytes(whole[:size])
        assert "truncated" in refusal(load_checkpoint, old), size


def test_a_damaged_checkpoint_is_refused(old):
    damaged = bytearray(old.read_bytes())
    start = damaged.index(b"data.pkl") + len(b"data.pkl")
    damaged[start : start + 120] = bytes(120)
    old.write_bytes(damaged)
    assert "damaged" in refusal(load_checkpoint, old)


def checkpoint(module, **settings):
    return {"config": config(**settings), "state_dict": module.state_dict()}


def test_a_checkpoint_of_the_same_model_and_data_passes():
    model = torch.nn.Linear(4, 2)
    check_model(checkpoint(model, epochs=99, seed=1), config(), model)
    check_dataset({"id_space": _space()}, dataset())
    check_dataset({}, dataset())  # RecBole's own keep no record


def _space(**changes):
    from recbole_attn.matching import id_space

    return id_space(dataset(**changes))


def test_another_model_and_another_data_set_are_named():
    model = torch.nn.Linear(4, 2)
    assert "another model: BERT4Rec, not SASRec" in refusal(
        check_model, checkpoint(model, model="BERT4Rec"), config(), model
    )
    text = refusal(check_model, checkpoint(model, dataset="ml-1m"), config(), model)
    assert "another data set: ml-1m, not toy" in text and "--dataset=ml-1m" in text


def test_a_shape_that_differs_is_named_with_the_setting_that_explains_it():
    saved = checkpoint(torch.nn.Linear(8, 2), hidden_size=8, epochs=99)
    text = refusal(check_model, saved, config(), torch.nn.Linear(4, 2))
    assert "weight has shape (2, 8) in the checkpoint and (2, 4) here" in text
    assert "hidden_size (8 there, 4 here)" in text and "epochs" not in text


def test_a_parameter_on_one_side_only_is_named():
    with_bias, without = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False)
    assert "bias has shape (2,) in the checkpoint and none here" in refusal(
        check_model, checkpoint(with_bias), config(), without
    )
    assert "bias has shape none in the checkpoint" in refusal(check_model, checkpoint(without), config(), with_bias)


def test_items_in_another_order_or_number_are_another_data_set():
    swapped = refusal(check_dataset, {"id_space": _space(items=("[PAD]", "b", "a"))}, dataset())
    assert "another data set: it has 3 item" in swapped and "another order" in swapped
    fewer = refusal(check_dataset, {"id_space": _space(items=("[PAD]", "a"))}, dataset())
    assert "it has 2 item (padding included), 3 here" in fewer
    users = refusal(check_dataset, {"id_space": _space(users=("[PAD]", "u2"))}, dataset())
    assert "2 user" in users


def test_random_draws_repeat_after_the_state_is_put_back():
    import random

    import numpy

    def draws():
        return random.random(), numpy.random.rand(), torch.rand(1).item()

    state = random_state()
    first = draws()
    assert draws() != first
    set_random_state(state)
    assert draws() == first
