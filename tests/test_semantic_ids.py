"""Semantic ids: where vectors come from, what quantisers make of them, and what is said when they cannot."""

import io
import pickle
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from atomic_files import config as recbole_config
from atomic_files import write
from threadpoolctl import threadpool_info, threadpool_limits

from recbole_attn.catalogue import Catalogue
from recbole_attn.config.names import read_values
from recbole_attn.data import load_dataset, split
from recbole_attn.errors import UserError
from recbole_attn.model.semantic import keep_semantic_ids, semantic_ids_for
from recbole_attn.registry import model_properties
from recbole_attn.semantic_ids import SemanticIds, code_usage, collision_rate
from recbole_attn.semantic_ids.interactions import ppmi
from recbole_attn.semantic_ids.quantizers import Sizes, fit_sizes, nearest, quantize, reconstruction_error
from recbole_attn.semantic_ids.table import read_table, write_table
from recbole_attn.semantic_ids.text import Column, features, sentences, text_vectors
from recbole_attn.semantic_ids.vectors import ItemVectors, one_thread, prepare

KINDS = ("red paint", "blue paint", "oak table", "pine table")
USERS, ITEMS = 40, 90
HEADER = ("user_id:token", "item_id:token", "timestamp:float")


def histories(change=lambda user, items: items):
    """Every user likes one kind of item: number n is of kind n modulo 4."""
    draw = np.random.default_rng(0)
    taken = [[4 * int(draw.integers(ITEMS // 4)) + user % 4 for _ in range(9)] for user in range(USERS)]
    return [(f"u{user}", f"i{item}", step) for user, items in enumerate(taken)
            for step, item in enumerate(change(user, items))]  # fmt: skip


def write_shop(folder, rows=None, items=ITEMS):
    write(folder, [HEADER, *(rows or histories())], name="shop")
    columns = ("item_id:token", "title:token_seq", "maker:token", "price:float")
    shop = [(f"i{n}", f"{KINDS[n % 4]} no {n % 7}", f"Maker {n % 4}", n % 4 + n / 1000) for n in range(items)]
    write(folder, [columns, *shop], name="shop", suffix="item")


def settings(folder, name="shop", **changes):
    defaults = read_values(model_properties("RPG"))
    known = {key: defaults[key] for key in ("item_vectors", "item_columns", "sentence_model", "pair_window", "whiten")}
    small = {"vector_size": 8, "quantizer": "rq", "n_codes": 4, "code_bits": 3, "semantic_ids": None, "seed": 7}
    loaded = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    return recbole_config(
        folder,
        "AttnSASRec",
        name,
        time_order="exact",
        loss_type="CE",
        **{**loaded, **known, **small, **changes},
    )


def made(folder, **changes):
    """Ids of the shop, and its item ids by number."""
    config = settings(folder, **changes)
    data = split(config, load_dataset(config))[0].dataset
    return semantic_ids_for(config, data), data.field2id_token["item_id"], config, data


def by_item(result):
    return {item: codes for item, codes in zip(result[1][1:], result[0].codes[1:].tolist())}


@pytest.fixture
def shop(tmp_path):
    write_shop(tmp_path)
    return tmp_path


def clusters(n=400, size=8, seed=0):
    draw = np.random.default_rng(seed)
    return (10 * draw.normal(size=(4, size))[draw.integers(4, size=n)] + draw.normal(size=(n, size))).astype(np.float32)


# Codes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["opq", "pq", "rq", "random"])
def test_every_item_has_codes_in_range_and_padding_has_zeros(shop, quantizer):
    ids, tokens, _, _ = made(shop, quantizer=quantizer)
    assert ids.codes.dtype == torch.long
    assert ids.codes.shape == (len(tokens), 4)
    assert not ids.codes[0].any()
    assert 0 <= int(ids.codes.min()) <= int(ids.codes.max()) < ids.n_values
    assert ids.report["quantizer"] == quantizer
    assert 0 <= ids.report["collision_rate"] <= 1
    assert len(ids.report["code_usage"]) == 4


@pytest.mark.parametrize("quantizer", ["opq", "pq", "rq"])
def test_codes_tell_clusters_apart_and_reconstruct_better_with_more_bits(quantizer):
    vectors, fitted = clusters(), np.ones(400, dtype=bool)
    errors = []
    for bits in (1, 3):
        found = quantize(vectors, fitted, quantizer, Sizes(4, bits, 8), 0)
        errors.append(reconstruction_error(vectors, found.reconstruction))
    assert errors[1] < errors[0] < 1
    assert errors[1] < 0.1


def test_a_rotation_serves_where_slices_are_correlated():
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(8, 8)))[0].astype(np.float32)
    vectors = (clusters(seed=1) * np.array([9, 8, 7, 6, 1, 1, 1, 1], dtype=np.float32)) @ turn
    sizes, fitted = Sizes(4, 3, 8), np.ones(len(vectors), dtype=bool)
    plain, turned = (
        reconstruction_error(vectors, quantize(vectors, fitted, name, sizes, 0).reconstruction)
        for name in ("pq", "opq")
    )
    assert turned < plain


def test_residual_codes_add_up_to_their_reconstruction():
    """Each level's codes are nearest to what the levels before it leave, so the error falls level by level."""
    vectors, fitted = clusters(), np.ones(400, dtype=bool)
    errors = [
        reconstruction_error(vectors, quantize(vectors, fitted, "rq", Sizes(levels, 2, 8), 0).reconstruction)
        for levels in (1, 2, 3)
    ]
    assert errors == sorted(errors, reverse=True)
    first = quantize(vectors, fitted, "rq", Sizes(1, 2, 8), 0).codes
    np.testing.assert_array_equal(first, quantize(vectors, fitted, "rq", Sizes(3, 2, 8), 0).codes[:, :1])


def test_the_nearest_centroid_is_the_one_a_loop_finds():
    draw = np.random.default_rng(0)
    vectors, centroids = draw.normal(size=(50, 3)), draw.normal(size=(6, 3))
    slow = [min(range(6), key=lambda c: sum((x - centroids[c]) ** 2)) for x in vectors]
    assert nearest(vectors, centroids).tolist() == slow


def test_centroids_are_learned_from_items_in_training_alone():
    vectors, fitted = clusters(), np.arange(400) < 300
    for quantizer in ("opq", "pq", "rq"):
        moved = vectors.copy()
        moved[350:] += 100
        whole, other = (quantize(v, fitted, quantizer, Sizes(4, 3, 8), 0).codes for v in (vectors, moved))
        np.testing.assert_array_equal(whole[:350], other[:350])
        assert (whole[350:] != other[350:]).any()


@pytest.mark.parametrize("quantizer", ["opq", "pq", "rq"])
def test_one_seed_gives_one_result_whatever_the_number_of_threads(quantizer):
    vectors, answers = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32), []
    for threads in (1, 3):
        with threadpool_limits(threads), one_thread():
            answers.append(quantize(vectors, np.ones(600, dtype=bool), quantizer, Sizes(8, 4, 16), 3).codes)
    np.testing.assert_array_equal(*answers)


def test_small_catalogues_get_fewer_bits_and_codes_with_a_word(caplog):
    with caplog.at_level("INFO"):
        assert fit_sizes("opq", 16, 8, 128, 39 * 256) == Sizes(16, 8, 128)
        assert not caplog.text
        assert fit_sizes("opq", 16, 8, 128, 1682) == Sizes(16, 5, 128)
        assert "code_bits = 5 in place of 8" in caplog.text
        assert fit_sizes("pq", 16, 8, 11, 20) == Sizes(11, 1, 11)
        assert "n_codes = 11 in place of 16" in caplog.text
    assert fit_sizes("pq", 4, 1, 11, 100).dimensions == 8
    assert fit_sizes("rq", 16, 8, 11, 20).n_codes == 16


def test_random_codes_keep_the_size_asked_for(shop):
    """Learned ones adapt to the catalogue."""
    sizes = {"n_codes": 4, "code_bits": 8}
    assert made(shop, quantizer="random", **sizes)[0].n_values == 256
    assert made(shop, quantizer="rq", **sizes)[0].n_values < 256


def test_any_seed_serves_every_quantizer(shop):
    for quantizer in ("opq", "pq", "rq", "random"):
        made(shop, quantizer=quantizer, seed=(1 << 32) - 1)


def test_collisions_and_usage_are_counted():
    codes = np.array([[0, 1], [0, 1], [0, 2], [0, 3]])
    assert collision_rate(codes) == 0.5
    assert code_usage(codes, 4) == [0.25, 0.75]


# Vectors -----------------------------------------------------------------------------------------------------------


def test_words_tokens_and_numbers_are_features():
    all_three = np.ones(3, dtype=bool)
    titles = features(Column("title", "text", ["Red_Paint, 2 l", None, "x"]), all_three)
    assert titles == [["red", "paint", "2", "l"], [], ["x"]]
    brands = features(Column("brand", "token", [" COKA Lab", None, ""]), all_three)
    assert brands == [["brand=coka lab", "coka", "lab"], [], []]
    prices = features(Column("price", "number", np.array([1.0, np.nan, 100.0])), all_three)
    assert prices[1] == [] and prices[0] != prices[2] and prices[0][0].startswith("price#")


def test_items_of_like_text_have_like_vectors():
    columns = [Column("title", "text", [f"{KINDS[n % 4]} {n}" for n in range(40)])]
    values = text_vectors(columns, np.ones(40, dtype=bool), 3, 0).values
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    likeness = values @ values.T
    assert likeness[0, 4] > 0.99 > likeness[0, 1] > likeness[0, 2]


def test_ppmi_is_what_loops_count():
    draw = np.random.default_rng(0)
    earlier, later = draw.integers(5, size=60), draw.integers(5, size=60)
    count = np.zeros((5, 5))
    for i, j in zip(earlier, later):
        count[i, j] += 1
        count[j, i] += 1
    single = count.sum(1)
    slow = [
        [
            max(0.0, np.log(count[i, j] * count.sum() / (single[i] * single[j]))) if count[i, j] else 0.0
            for j in range(5)
        ]
        for i in range(5)
    ]
    np.testing.assert_allclose(ppmi(earlier, later, 5).toarray(), slow)


def test_whitened_components_have_one_variance_and_unknown_items_the_mean():
    draw = np.random.default_rng(0)
    values = draw.normal(size=(200, 6)) * np.array([9, 5, 3, 2, 1, 1])
    known = np.arange(200) < 190
    values[~known] = np.nan
    ready = prepare(ItemVectors(values, known), np.ones(200, dtype=bool), 4, True, 0)
    np.testing.assert_allclose(ready[known].std(0, ddof=1), 1, rtol=1e-4)
    assert ready.shape == (200, 4) and not ready[~known].any()
    plain = prepare(ItemVectors(values, known), np.ones(200, dtype=bool), 4, False, 0)
    assert plain.std(0)[0] > 2 * plain.std(0)[3]


@pytest.mark.parametrize("item_vectors", ["text", "interactions"])
def test_nothing_of_validation_and_test_enters(tmp_path, item_vectors):
    """The two held-out items of every user change places between users; the catalogue and its numbers stay."""

    def swapped(user, items):
        return items if user < 30 else [*items[:-2], items[-1], items[-2]]

    def shifted(rows):
        held = [row for row in rows if row[2] >= 7]
        turned = {(user, step): held[(n + 4) % len(held)][1] for n, (user, _, step) in enumerate(held)}
        return [(user, turned.get((user, step), item), step) for user, item, step in rows]

    first, second = tmp_path / "first", tmp_path / "second"
    front = [("u_all", f"i{n}", n) for n in range(ITEMS)]  # every item occurs in training, in one order
    for folder, rows in ((first, histories()), (second, shifted(histories(swapped)))):
        folder.mkdir()
        write_shop(folder, [*front, *rows])
    assert shifted(histories(swapped)) != histories()
    assert by_item(made(first, item_vectors=item_vectors)) == by_item(made(second, item_vectors=item_vectors))


@pytest.mark.parametrize("item_vectors", ["text", "interactions"])
def test_items_that_occur_only_in_validation_and_test_change_no_code_of_the_others(tmp_path, item_vectors):
    front = [("u_all", f"i{n}", n) for n in range(ITEMS)]  # every other item occurs in training, in one order
    later = [(user, f"i{ITEMS + int(user[1:]) % 15}" if step == 8 else item, step) for user, item, step in histories()]
    codes = []
    for name, rows in (("first", histories()), ("second", later)):
        (tmp_path / name).mkdir()
        write_shop(tmp_path / name, [*front, *rows], items=ITEMS + 15)
        codes.append(by_item(made(tmp_path / name, item_vectors=item_vectors)))
    assert len(codes[1]) > len(codes[0])
    assert codes[0] == {item: codes[1][item] for item in codes[0]}


def test_training_interactions_do_enter(tmp_path):
    """The test above could not fail otherwise."""
    front = [("u_all", f"i{n}", n) for n in range(ITEMS)]
    moved = [(user, f"i{int(item[1:]) * 7 % ITEMS}", step) for user, item, step in histories()]
    codes = []
    for name, rows in (("first", histories()), ("second", moved)):
        (tmp_path / name).mkdir()
        write_shop(tmp_path / name, [*front, *rows])
        codes.append(by_item(made(tmp_path / name, item_vectors="interactions")))
    assert codes[0] != codes[1]


def test_without_an_item_file_interactions_are_used(shop):
    assert made(shop)[0].report["item_vectors"] == "text"
    (shop / "shop" / "shop.item").unlink()
    assert made(shop)[0].report["item_vectors"] == "interactions"


def test_items_without_a_row_get_the_same_codes_and_are_counted(tmp_path, caplog):
    write_shop(tmp_path, items=80)
    with caplog.at_level("WARNING"):
        result = made(tmp_path)
    without = [codes for item, codes in by_item(result).items() if int(item[1:]) >= 80]
    assert len(without) > 1 and all(codes == without[0] for codes in without)
    assert f"{len(without)} of {len(result[1]) - 1} items have no row" in caplog.text


def test_items_of_the_item_file_alone_get_numbers_and_codes_where_its_ids_are_loaded(tmp_path):
    write_shop(tmp_path, items=ITEMS + 10)
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}
    cold = by_item(made(tmp_path, load_col=columns))
    assert {f"i{n}" for n in range(ITEMS, ITEMS + 10)} <= set(cold)
    assert "i95" not in by_item(made(tmp_path))


@pytest.mark.parametrize("form", ["npz", "npy", "atomic"])
def test_vectors_from_a_file_are_matched_by_item_id(shop, form):
    draw = np.random.default_rng(0)
    values, ids = draw.normal(size=(ITEMS, 6)), [f"i{n}" for n in range(ITEMS)]
    for name, order in (("ordered", np.arange(ITEMS)), ("shuffled", draw.permutation(ITEMS))):
        save(shop / f"{name}.{form}", [ids[n] for n in order], values[order])
    assert by_item(made(shop, item_vectors=str(shop / f"ordered.{form}"))) == by_item(
        made(shop, item_vectors=str(shop / f"shuffled.{form}"))
    )


def save(path, ids, values):
    if path.suffix == ".npz":
        np.savez(path, ids=np.array(ids), vectors=values)
    elif path.suffix == ".npy":
        np.save(path, values)
        path.with_suffix(".ids").write_text("\n".join(ids) + "\n")
    else:
        rows = [f"{item}\t{' '.join(map(str, vector))}" for item, vector in zip(ids, values)]
        path.write_text("\n".join(["iid:token\titem_emb:float_seq", *rows]) + "\n")


# A sentence encoder ------------------------------------------------------------------------------------------------


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """A package sentence_transformers that counts letters; its calls."""
    calls = []

    class SentenceTransformer:
        def __init__(self, name):
            if name == "nowhere":
                raise OSError("nowhere is not a local folder\nand not a model")

        def encode(self, texts, show_progress_bar):
            calls.append(texts)
            return np.array([[text.count(letter) for letter in "abcdeilnoprt"] for text in texts], dtype=np.float32)

    module = SimpleNamespace(SentenceTransformer=SentenceTransformer, __spec__=SimpleNamespace(name="fake"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def test_the_sentence_encoder_reads_all_columns_once_for_a_model_and_its_texts(shop, encoder):
    (shop / "encoder").mkdir()
    (shop / "encoder" / "weights").write_text("1")
    model = {"item_vectors": "sentence", "sentence_model": str(shop / "encoder")}
    first = made(shop, **model)[0]
    assert encoder[0][0].startswith("title: ") and "maker: Maker" in encoder[0][0] and "price: " in encoder[0][0]
    assert torch.equal(made(shop, **model)[0].codes, first.codes)
    assert len(encoder) == 1
    (shop / "encoder" / "weights").write_text("2")
    made(shop, **model)
    assert len(encoder) == 2
    made(shop, **model, item_columns=["title"])
    assert len(encoder) == 3


@pytest.mark.parametrize("spoil", [lambda held: held[:-8], lambda held: b"", lambda held: held.replace(b"<f4", b"<i4")])
def test_kept_sentence_vectors_that_are_damaged_are_made_anew(shop, encoder, caplog, spoil):
    first = made(shop, item_vectors="sentence")[0]
    (kept,) = (shop / "cache").rglob("*.npy")
    whole = kept.read_bytes()
    kept.write_bytes(spoil(whole))
    assert torch.equal(made(shop, item_vectors="sentence")[0].codes, first.codes)
    assert f"{kept} is damaged" in caplog.text
    assert len(encoder) == 2 and kept.read_bytes() == whole


def test_a_sentence_leaves_out_what_is_missing():
    columns = [Column("title", "text", ["Oak_table", None]), Column("price", "number", np.array([2.5, np.nan]))]
    assert sentences(columns) == ["title: Oak table. price: 2.5", ""]


def test_a_sentence_encoder_that_is_not_found_is_named(shop, encoder):
    refuse(shop, "sentence_model=nowhere: cannot be loaded", item_vectors="sentence", sentence_model="nowhere")


def test_a_sentence_encoder_whose_own_packages_fail_is_named(shop, encoder, monkeypatch):
    def fails(name):
        raise ImportError("T5Tokenizer requires the SentencePiece library")

    monkeypatch.setattr(sys.modules["sentence_transformers"], "SentenceTransformer", fails)
    refuse(shop, r"cannot be loaded \(T5Tokenizer requires", item_vectors="sentence")


def test_a_sentence_encoder_that_is_not_installed_is_named(shop, monkeypatch):
    monkeypatch.setattr("recbole_attn.semantic_ids.sentence.find_spec", lambda name: None)
    refuse(shop, "pip install sentence-transformers", item_vectors="sentence")


# Tables and checkpoints --------------------------------------------------------------------------------------------


def test_a_table_is_written_then_read_by_other_seeds(shop):
    path = str(shop / "ids.tsv")
    first = made(shop, semantic_ids=path)
    again = made(shop, semantic_ids=path, seed=8)
    assert by_item(first) == by_item(again)
    assert again[0].n_values == first[0].n_values
    assert again[0].report["reconstruction_error"] == first[0].report["reconstruction_error"]
    refuse(shop, "was made with quantizer=rq, not random", semantic_ids=path, quantizer="random")


def test_a_table_knows_the_file_of_its_vectors_from_any_folder(shop, monkeypatch):
    save(shop / "vectors.npz", [f"i{n}" for n in range(ITEMS)], np.random.default_rng(0).normal(size=(ITEMS, 6)))
    path = str(shop / "ids.tsv")
    monkeypatch.chdir(shop)
    first = made(shop, semantic_ids=path, item_vectors="vectors.npz")
    monkeypatch.chdir("/")
    assert by_item(first) == by_item(made(shop, semantic_ids=path, item_vectors=str(shop / "vectors.npz")))


def test_a_table_made_elsewhere_decides_on_the_sizes(shop):
    table = {f"i{n}": (n % 5, n // 5 % 19, 3) for n in range(ITEMS)}
    path = shop / "theirs.tsv"
    path.write_text("".join(f"{item}\t{a}\t{b}\t{c}\n" for item, (a, b, c) in table.items()))
    result = made(shop, semantic_ids=str(path))
    assert result[0].n_values == 32
    assert by_item(result) == {item: list(table[item]) for item in result[1][1:]}


def test_a_table_holds_any_id(tmp_path):
    """A mark of comments, and what Unicode has for line ends."""
    items = ["#1", "a\u2028b", "c\u0085d", "# 2"]
    path = tmp_path / "ids.tsv"
    path.write_text("".join(f"{item}\t{n}\n" for n, item in enumerate(items)), encoding="utf-8")
    assert read_table(path).items == items
    write_table(path, SemanticIds(torch.arange(5)[:, None], 8, {}), ["[PAD]", *items], {"seed": 1})
    assert read_table(path)[::2] == (items, {"n_values": 8, "made": {"seed": 1}, "report": {}})


def test_a_checkpoints_config_brings_the_codes_without_data_quantiser_or_files(shop, monkeypatch):
    path = shop / "ids.tsv"
    ids, tokens, config, data = made(shop, quantizer="pq", semantic_ids=str(path))
    kept = pickle.loads(pickle.dumps(config))
    shutil.rmtree(shop / "shop")
    path.unlink()
    monkeypatch.setattr("recbole_attn.semantic_ids.quantizers.find_spec", lambda name: None)
    for source in (Catalogue("item_id", list(tokens)), data):
        again = semantic_ids_for(kept, source)
        assert torch.equal(again.codes, ids.codes) and again.n_values == ids.n_values
        assert again.codes.dtype == torch.long


def test_a_table_of_another_training_part_is_refused(shop):
    """Its codes may know what is tested here."""
    path = str(shop / "ids.tsv")
    first = made(shop, semantic_ids=path)
    rows = histories(lambda user, items: [*items[:-3], items[-1], *items[-3:-1]] if user == 0 else items)
    write(shop, [HEADER, *rows], name="shop")
    refuse(shop, "was made with training=[0-9a-f]+, not [0-9a-f]+; name another file", semantic_ids=path)
    write(shop, [HEADER, *reversed(histories())], name="shop")  # in another order of lines
    assert by_item(made(shop, semantic_ids=path)) == by_item(first)


def test_kept_codes_serve_the_same_items_and_settings_only(shop):
    _, _, config, data = made(shop)
    config["n_codes"] = 5
    assert semantic_ids_for(config, data).codes.size(1) == 5
    other = settings(shop, n_codes=5)
    keep_semantic_ids(config, other)
    shutil.rmtree(shop / "shop")
    assert semantic_ids_for(other, data).codes.size(1) == 5
    assert semantic_ids_for(other, Catalogue("item_id", ["[PAD]", "x", "y"])).codes.shape == (3, 5)


def test_a_catalogue_alone_gets_codes_of_the_right_size_and_none_are_kept(shop):
    config = settings(shop)
    ids = semantic_ids_for(config, Catalogue("item_id", ["[PAD]", "one", "two"]))
    assert ids.codes.shape == (3, 4) and ids.n_values == 8
    assert "made_semantic_ids" not in config


# Mistakes ----------------------------------------------------------------------------------------------------------


def refuse(folder, message, **changes):
    with pytest.raises(UserError, match=message) as caught:
        made(folder, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer": "vq"}, "quantizer=vq: must be one of opq, pq, rq, random"),
        ({"quantizer": "pq", "n_codes": 9}, "n_codes=9: .*vector_size=8 has fewer dimensions"),
        ({"n_codes": 0}, "n_codes=0: must lie in"),
        ({"code_bits": 17}, "code_bits=17: must lie in"),
        ({"item_vectors": "txt"}, "item_vectors=txt: no such file"),
        ({"item_columns": []}, r"item_columns=\[\]: no usable item column in .*; name other item_columns"),
        ({"item_columns": ["titel"]}, "item_columns: 'titel' .*did you mean 'title'"),
    ],
)
def test_impossible_settings_are_refused(shop, changes, message):
    refuse(shop, message, **changes)


def test_text_without_a_usable_column_is_refused(shop, encoder):
    write(shop, [("item_id:token", "note:token_seq"), *((f"i{n}", f"only{n}") for n in range(ITEMS))], "shop", "item")
    refuse(shop, "item_vectors=text: no usable item column .* use item_vectors=interactions", item_vectors="text")
    (shop / "shop" / "shop.item").unlink()
    refuse(shop, r"item_vectors=sentence: there is no .*shop\.item; put it there, or", item_vectors="sentence")
    refuse(shop, r"item_columns=\['title'\]: there is no .*shop\.item; put it there, or", item_columns=["title"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ids, values: (ids[:-30], values[:-30]), r"lacks .* items, .* \(there: i0, i1\)"),
        (lambda ids, values: (np.array(ids, dtype=object), values), r"ids\.astype\(str\)"),
        (lambda ids, values: (ids[:-1], values), "vectors have shape .*; save one row of numbers for each id"),
        (lambda ids, values: (ids, values[:, 0]), "vectors have shape"),
        (
            lambda ids, values: (ids, np.where(np.arange(len(ids))[:, None] == 5, np.nan, values)),
            "i5 holds NaN or infinity; mend",
        ),
        (lambda ids, values: ([*ids[:-1], ids[0]], values), "i0 comes twice"),
        (lambda ids, values: (ids, np.where(np.arange(len(ids))[:, None] == 5, 1e30, values)), "i5 holds a number bey"),
        (lambda ids, values: (ids, values + 1j), "complex128, not real numbers"),
        (lambda ids, values: (ids, np.zeros_like(values)), "all items in training have the same vector"),
        (lambda ids, values: (ids, values[:, :3]), "n_codes=4: the vectors .* have 3 dimensions"),
    ],
)
def test_broken_vectors_are_named(shop, spoil, message):
    ids, values = spoil([f"i{n}" for n in range(ITEMS)], np.random.default_rng(0).normal(size=(ITEMS, 6)))
    np.savez(shop / "broken.npz", ids=np.array(ids), vectors=values)
    refuse(shop, message, item_vectors=str(shop / "broken.npz"), quantizer="pq")


def test_a_title_that_opens_a_quotation_mark_and_does_not_close_it_is_named(shop):
    file = shop / "shop" / "shop.item"
    file.write_text(file.read_text().replace("\tred paint no 4", '\t"red paint no 4', 1))
    refuse(shop, r"shop\.item: cannot be parsed .*EOF inside string")
    file.write_text(file.read_text().replace("\tblue paint no 5", '\t"blue paint no 5', 1))
    refuse(shop, r"shop\.item: \d+ lines make \d+ rows, because a cell that begins with a quotation mark")


def test_doubled_separators_between_numbers_are_one(shop):
    rows = [f"i{n}\t{n} {n % 7}{'  ' * (n % 2)} {n % 5} 1 \n" for n in range(ITEMS)]
    (shop / "loose.emb").write_text("item_id:token\tv:float_seq\n" + "".join(rows))
    assert made(shop, item_vectors=str(shop / "loose.emb"))[0].report["dimensions"] == 3


ONE = np.zeros((1, 6))


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("cut.npz", lambda path, held: path.write_bytes(held[:-40]), r"cut\.npz: cannot be read \(File is not a zip"),
        ("damaged.npz", lambda path, held: path.write_bytes(held.replace(b"i\0\0\0", b"j\0\0\0")), "be read .*CRC"),
        ("one.npz", lambda path, held: path.write_bytes(array()), r"one\.npz: cannot be read \(it holds one array"),
        (
            "flat.npz",
            lambda path, held: np.savez(path, ids=np.array("i1"), vectors=ONE),
            r"ids have shape \(\)",
        ),
        (
            "wide.npz",
            lambda path, held: np.savez(path, ids=np.array([["i1"]]), vectors=ONE),
            r"ids have shape \(1, 1",
        ),
        ("empty.npz", lambda path, held: path.write_bytes(b""), r"empty\.npz: cannot be read"),
        (
            "many.npy",
            lambda path, held: np.savez(path.open("wb"), ids=[], vectors=[]),
            r"many\.npy: .*magic string",
        ),
        ("cut.npy", lambda path, held: path.write_bytes(held[:-8]), r"cut\.npy: cannot be read"),
        ("empty.npy", lambda path, held: path.write_bytes(b""), r"empty\.npy: cannot be read"),
    ],
)
def test_broken_files_of_vectors_are_named(shop, name, spoil, message):
    save(shop / name, [f"i{n}" for n in range(ITEMS)], np.zeros((ITEMS, 6)))
    spoil(shop / name, (shop / name).read_bytes())
    refuse(shop, message, item_vectors=str(shop / name))


def array():
    """What .npy files hold."""
    stream = io.BytesIO()
    np.save(stream, np.zeros((ITEMS, 6)))
    return stream.getvalue()


def test_vectors_without_ids_or_of_different_lengths_are_named(shop):
    np.save(shop / "alone.npy", np.zeros((ITEMS, 6)))
    refuse(shop, r"alone.npy: cannot be read .*\.ids file", item_vectors=str(shop / "alone.npy"))
    np.savez(shop / "alone.npz", vectors=np.zeros((ITEMS, 6)))
    refuse(shop, "has no array 'ids", item_vectors=str(shop / "alone.npz"))
    (shop / "vectors.pt").write_bytes(bytes(range(128, 200)))
    refuse(
        shop, r"item_vectors=.*vectors\.pt: is no atomic file .*give an \.npz", item_vectors=str(shop / "vectors.pt")
    )
    (shop / "uneven.emb").write_text("item_id:token\tv:float_seq\ni1\t1 2\ni2\t1\n")
    refuse(shop, "item i2 has 1 numbers, the first item 2", item_vectors=str(shop / "uneven.emb"))


def test_a_catalogue_too_small_for_a_quantiser_is_refused(tmp_path):
    rows = [(f"u{user}", f"i{step}", step) for user in range(3) for step in (0, 0, 1, 2)]
    write_shop(tmp_path, rows)
    refuse(tmp_path, "0 items in training have a vector, and a quantiser needs at least 2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i1\t1\t2\n", "lacks .* items"),
        ("i1\t1\t2\ni2\t1\n", "line 2: each line is item_id<tab>2 codes"),
        ("i1\t1\t-2\n", "line 1: each line is"),
        ("i1\n", "line 1: each line is"),
        ("i1\t1\ni1\t2\n", "item i1 comes twice"),
        ("i1\t99999999999999999999\n", "line 1: the code 9+ is above the most, 65535"),
        ('# {"made": 3}\ni1\t1\n', "line 1: n_values must be .* delete this line"),
        ('# {"report": 3}\ni1\t1\n', "line 1: n_values must be .* delete this line"),
        ('# {"n_values": "x"}\ni1\t1\n', "line 1: n_values must be a whole number in 1 … 65536"),
        ("", "holds no item"),
    ],
)
def test_broken_tables_are_named(shop, text, message):
    (shop / "broken.tsv").write_text(text)
    refuse(shop, message, semantic_ids=str(shop / "broken.tsv"))


def test_a_missing_faiss_is_named(shop, monkeypatch):
    monkeypatch.setattr("recbole_attn.semantic_ids.quantizers.find_spec", lambda name: None)
    refuse(shop, "quantizer=opq: faiss is not installed; pip install faiss-cpu, or use quantizer=rq", quantizer="opq")
    assert made(shop, quantizer="rq")


def test_a_faiss_that_cannot_be_imported_is_named(shop, monkeypatch):
    (shop / "faiss.py").write_text("raise ImportError('no libgomp')")
    monkeypatch.syspath_prepend(shop)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    refuse(shop, r"quantizer=opq: faiss cannot be imported \(no libgomp\); .*quantizer=rq", quantizer="opq")
    assert made(shop, quantizer="rq")


def test_sums_are_made_in_one_thread_and_threads_come_back():
    before = [pool["num_threads"] for pool in threadpool_info()]
    with one_thread():
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_marks_of_editors_and_ids_in_bytes_are_read(shop):
    ids, values = [f"i{n}" for n in range(ITEMS)], np.random.default_rng(0).normal(size=(ITEMS, 6))
    np.savez(shop / "text.npz", ids=np.array(ids), vectors=values)
    np.savez(shop / "bytes.npz", ids=np.array(ids, dtype="S"), vectors=values)
    expected = made(shop, item_vectors=str(shop / "text.npz"))[0].codes
    assert torch.equal(made(shop, item_vectors=str(shop / "bytes.npz"))[0].codes, expected)
    (shop / "marked.tsv").write_text("\ufeff" + "".join(f"{item}\t1\t2\n" for item in ids))
    assert made(shop, semantic_ids=str(shop / "marked.tsv"))[0].codes.shape[1] == 2


def test_a_table_of_other_item_data_is_refused_and_one_whose_data_are_gone_is_read(shop):
    table = str(shop / "ids.tsv")
    first = made(shop, semantic_ids=table)[0].codes
    items = shop / "shop" / "shop.item"
    before = items.read_text()
    items.write_text(before.replace("paint", "varnish"))
    refuse(shop, r"ids\.tsv: was made with item_data=\w+, not \w+; name another file", semantic_ids=table)
    items.unlink()
    assert torch.equal(made(shop, semantic_ids=table)[0].codes, first)


def test_dimensions_that_no_slice_takes_are_told(caplog):
    caplog.set_level("INFO")
    assert fit_sizes("pq", 5, 3, 8, 10**6) == Sizes(5, 3, 5)
    assert "the first 5 of 8 dimensions are kept" in caplog.text
