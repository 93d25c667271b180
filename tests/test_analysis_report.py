"""`--analyze`: one page from checkpoints, what it says, and what it refuses."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from atomic_files import write
from runs import SMALL, mistake, write_chains
from test_compare_report import BROWSER, chromium

from recbole_attn import protocol
from recbole_attn.analysis.ablation import ablation
from recbole_attn.analysis.cases import load_cases
from recbole_attn.analysis.command import analyze
from recbole_attn.analysis.estimates import Estimate, estimate
from recbole_attn.analysis.groups import Groups
from recbole_attn.analysis.maps import Maps
from recbole_attn.analysis.measures import NAMES
from recbole_attn.analysis.page import grouped
from recbole_attn.analysis.page.grouped import Tried, counted
from recbole_attn.analysis.page.heatmaps import draw_layer
from recbole_attn.analysis.page.scales import Scale, scales, signed_root, signed_square
from recbole_attn.analysis.page.sentences import of_user, signed, verdict
from recbole_attn.analysis.titles import title_column
from recbole_attn.analysis.trained import read_rows
from recbole_attn.checkpoint import load_checkpoint
from recbole_attn.cli import main
from recbole_attn.compare.statistics import Comparison, holm
from recbole_attn.compare.store import write_json
from recbole_attn.config.settings import load_settings
from recbole_attn.data.atomic import read_header
from recbole_attn.run import run

ROWS = {
    "control": {"model": "AttnSASRec"},
    "mended": {"model": "ACTSR"},
    "again": {"model": "ACTSR", "seed": 2021},
    "refined": {"model": "AWRSR"},
    "other length": {"model": "AttnSASRec", "MAX_ITEM_LIST_LENGTH": 7},
    "other data": {"model": "AttnSASRec", "dataset": "links"},
    "other items": {"model": "AttnSASRec", "data_path": "elsewhere"},
    "blind": {"model": "GRU4Rec"},
    "users only": {"model": "BPR"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, and a checkpoint for each of ROWS."""
    folder = tmp_path_factory.mktemp("inside")
    (folder / "elsewhere").mkdir()
    write_chains(folder)
    write_chains(folder, name="links")
    write_chains(folder / "elsewhere", users=50)
    titles = [(f"i{number}", f"The $ <{number}> Film") for number in range(20)]
    write(folder, [("item_id:token", "title:token_seq"), *titles], name="chains", suffix="item")
    return folder, {name: train(folder, **settings) for name, settings in ROWS.items()}


def train(folder, model, **changes):
    attention = {**SMALL, "n_layers": 1} if model not in ("BPR", "GRU4Rec") else {}
    few = {key: SMALL[key] for key in ("show_progress", "use_gpu", "state")}
    path = folder / changes.pop("data_path", "")
    settings = {**few, **attention, "epochs": 1, "dataset": "chains", "data_path": str(path), **changes}
    return run(
        load_settings(model, config_dict={**settings, "checkpoint_dir": str(folder / "saved")}).config
    ).checkpoint


@pytest.fixture(scope="module")
def report(trained, tmp_path_factory):
    """The folder of a report, and what the command printed."""
    checkpoints = trained[1]
    results = tmp_path_factory.mktemp("results")
    for name, seed, score in (("none", 1, 0.2), ("none", 2, 0.3), ("first", 1, 0.6), ("first", 2, 0.5)):
        write_ablation(results / "calibrator_layers" / f"{name}-{seed}", name, score)
    paths = ",".join(checkpoints[name] for name in ("mended", "again", "refined"))
    options = {"analyze": paths, "baseline": checkpoints["control"], "users": "u3", "results": str(results)}
    return results / "inside-chains", analyze(options)


def write_ablation(folder, row, score, metric="ndcg@10", **settings):
    folder.mkdir(parents=True)
    seed = int(folder.name.rpartition("-")[2])
    result = {"row": row, "seed": seed, "settings": {"seed": seed, **settings}, "config": {"dataset": "chains"}}
    write_json(folder / "result.json", result)
    users = np.array([f"u{user}" for user in range(30)])
    values = score + np.random.default_rng(0).normal(0, 0.01, 30)
    columns = dict.fromkeys(("rank", "tied", "history", "popularity"), np.ones(30, int))
    np.savez(folder / "ranks.npz", user=users, target=users, **columns, **{f"metric {metric}": values})


@pytest.fixture(scope="module")
def page(report):
    return (report[0] / "inside.html").read_text()


def test_the_command_says_what_was_found_and_where(report):
    folder, printed = report
    assert re.search(r"^AttnSASRec: NDCG@10 0\.\d{4}\.$", printed, re.MULTILINE)
    assert re.search(r"^ACTSR: NDCG@10 .*; against AttnSASRec .*95 % interval", printed, re.MULTILINE)
    assert f"report  {folder / 'inside.html'}" in printed


def test_the_page_shows_every_layer_before_and_after_with_titles(report, page):
    for row in ("AttnSASRec", "ACTSR", "AWRSR"):
        assert page.count(f"<strong>{row}, layer 1.</strong>") == 2  # the average and one user
    for name in ("plain", "spatially calibrated", "keep-mask", "attacked", "calibrated", "combined", "change"):
        assert f">{name}</text>" in page or f"{name}</text>" in page
    assert "The $ &lt;" in page
    with np.load(report[0] / "maps" / "ACTSR-user-u3.npz") as arrays:
        assert arrays["layer 1 combined"].shape[1:] == (len(arrays["items"]),) * 2
        assert arrays["labels"][0].startswith("The $ <") and arrays["items"][0].startswith("i")
    with np.load(report[0] / "AWRSR.npz") as arrays:
        assert arrays["robustness"].shape == (1, 2, 4, 6, 60)
    with np.load(report[0] / "ACTSR.npz") as arrays:  # two seeds are one row
        assert {len(arrays[name]) for name in ("robustness", "erasures", "measures_before", "measures_after")} == {2}


def test_the_table_of_heads_has_the_paired_change_with_its_interval(report, page):
    with np.load(report[0] / "ACTSR.npz") as arrays:
        moved = estimate(arrays["measures_after"][0, :, 0, 1] - arrays["measures_before"][0, :, 0, 1])
    place = list(NAMES).index("entropy")
    table = page.split('<section id="measures-of-each-layer-and-head')[1].split("</section>")[0]
    (row,) = re.findall(r"<tr><td>ACTSR</td><td>change</td><td>1</td><td>2</td>(.*?)</tr>", table)
    mean, reach = moved.mean[place], moved.high[place] - moved.mean[place]
    text = f"{signed(mean, 2)} ± {reach:.2f}"
    assert (f"<strong>{text}</strong>" if moved.certain[place] else f">{text}</td>") in row
    assert "<td>AttnSASRec</td><td>change" not in table


def test_every_figure_has_a_sentence_with_its_numbers(page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == page.count("<svg ") > 15
    assert all(len(re.sub("<.*?>", "", caption)) > 80 for caption in captions)
    assert any("no difference shows (difference" in caption for caption in captions)


def test_figures_keep_their_width_so_that_letters_do_not_shrink_on_a_phone(page):
    figures = re.findall(r"<figure.*?</figure>", page, re.DOTALL)
    assert figures and all('<div class="scroll" style="--width: ' in figure for figure in figures)


def test_the_page_counts_the_groups_and_corrects_for_them(page):
    """2 models against the control, in the groups of each key that is known."""
    section = page.split('<section id="how-much-of-that-is-chance')[1].split("</section>")[0]
    drawn = page.split('<section id="where-it-matters"')[1].split("</section>")[0]
    intervals, chance, differing = re.search(
        r"(\d+) intervals were looked at\. .* about (\d+\.\d) of .* by chance; (\d+) do", section
    ).groups()
    assert float(chance) == pytest.approx(0.05 * int(intervals), abs=0.051)
    assert int(differing) == section.count("<td>AC") + section.count("<td>AW") == drawn.count("p corrected for all")


def comparison(p, low=0.1, high=0.3):
    return Comparison(difference=0.2, low=low, high=high, p=p, p_bootstrap=p, effect=0.1, users=9)


def test_of_many_groups_only_what_outlasts_their_number_is_left():
    corrected = holm({"a": 0.001, "b": 0.03, "c": 0.5})
    tried = [
        Tried("AWRSR", "history", name, comparison(p, low), corrected[name])
        for name, p, low in (("a", 0.001, 0.1), ("b", 0.03, 0.1), ("c", 0.5, -0.1))
    ]
    text, table = counted(tried)
    assert "3 intervals were looked at" in text.text
    assert "; 2 do. " in text.text and "1 of these differences is left" in text.text
    assert [row[2].text for row in table.rows] == ["a", "b"]
    assert table.rows[1][-1].text == "0.0600"
    assert counted([]) == []
    assert "none of these differences is left" in counted([one._replace(corrected=1.0) for one in tried])[0].text


def test_groups_of_one_name_stay_apart():
    edges = [(10, 10), (11, 95_040), (95_041, 120_959), (120_960, 777_600)]
    names = grouped._names(Groups("gap", edges, np.zeros(4, dtype=int)))
    assert names == ["≤ 10 s", "≤ 95,040 s", "≤ 120,959 s", "> 120,959 s"]


def test_of_several_targets_of_a_user_the_last_one_is_looked_at(trained, tmp_path):
    config = load_checkpoint(trained[1]["mended"])["config"]
    config["eval_args"]["split"] = {"RS": [0.5, 0.2, 0.3]}
    cases, dataset = load_cases(config)
    *_, test = protocol.loaders(config, protocol.load(config))
    users = dataset.id2token(dataset.uid_field, test.dataset.inter_feat[dataset.uid_field].numpy())
    items = test.dataset.inter_feat[dataset.iid_field].numpy()
    assert len(set(users)) < len(users)
    assert dict(zip(cases.user, cases.target.tolist())) == dict(zip(users, items.tolist()))
    assert len(cases.user) == len(set(users))


def test_the_page_takes_the_ablation_in(page):
    assert "Where to calibrate, and with what" in page
    (row,) = re.findall(r"<td>first</td>.*?</tr>", page.split('<section id="where-to-calibrate')[1])
    assert "0.5488 ±" in row and "better (difference +0.30" in row


def test_an_ablation_counts_each_seed_once_with_the_latest_settings_and_the_metric_that_is_asked_for(tmp_path):
    for number, (name, score, settings) in enumerate(
        [("none-1", 0.2, {}), ("none-2", 0.3, {}), ("old-1", 0.9, {"n_layers": 1}), ("new-1", 0.6, {"n_layers": 2})]
    ):
        row = name[:4] if name.startswith("none") else "all"
        write_ablation(tmp_path / name, row, score, **settings)
        os.utime(tmp_path / name / "result.json", (number, number))
    write_ablation(tmp_path / "last-1", "last", 0.5, metric="ndcg@5")
    found = ablation(tmp_path, "chains", "ndcg@10")
    assert [(row.name, len(row.scores)) for row in found] == [("none", 2), ("all", 1)]
    assert found[1].scores == pytest.approx(0.6, abs=0.01)


def test_models_that_differ_in_a_dictionary_have_names_of_their_own(trained, tmp_path):
    folder, checkpoints = trained
    clipped = [train(folder, "AttnSASRec", clip_grad_norm={"max_norm": norm}) for norm in (5, 1)]
    names = [row.name for row in read_rows([checkpoints["control"], *clipped])]
    assert len(set(names)) == 3


def test_the_page_loads_nothing_from_elsewhere(page):
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org|purl\.org|creativecommons|matplotlib)", page)


def test_ids_within_the_page_are_unique(page):
    ids = re.findall(r'\sid="([^"]+)"', re.sub(r"<g id=.*?>", "", page))
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("low", "high", "mean", "words"),
    [(-0.1, 0.2, 0.05, "no difference shows"), (0.1, 0.3, 0.2, "more ("), (-0.3, -0.1, -0.2, "less (")],
)
def test_a_sentence_claims_a_difference_only_where_the_interval_leaves_0_out(low, high, mean, words):
    found = Estimate(*(np.array(value) for value in (mean, low, high, 9)))
    assert verdict(mean, found, 2).startswith(words)
    assert "95 % interval" in verdict(mean, found, 2)


def maps_of(*layers):
    """Maps of one head and three positions, each of one value in its visible cells."""
    layers = [{name: np.tril(np.full((1, 3, 3), value)) for name, value in layer.items()} for layer in layers]
    return Maps(layers, ["a", "b", "c"], ["", "", ""])


def test_maps_that_are_compared_share_a_scale_and_others_have_their_own():
    refined = maps_of({"A": 0.2, "R": 0.9, "final": 0.5})
    calibrated = maps_of({"plain": 0.3, "keep-mask": 0.97, "combined": 0.4})
    control = maps_of({"weights": 0.6})
    (mended,), (kept,), (plain,) = scales([refined, calibrated, control])
    weight = ("weight", 0, 0.6)
    assert mended["A"] == mended["final"] == kept["plain"] == kept["combined"] == plain["weights"] == weight
    assert mended["R"] == ("correlation", 0, 0.9)
    assert kept["keep-mask"] == ("share kept", pytest.approx(0.87), 0.97)
    assert mended["change"] == kept["change"] == ("change", pytest.approx(-0.3), pytest.approx(0.3))


def test_one_models_negative_weights_do_not_change_the_colours_of_the_others():
    focused = maps_of({"A1": 0.3, "difference": -0.1}, {"A1": 0.3, "difference": 0.2})
    (first, second), (plain, _) = scales([focused, maps_of({"weights": 0.6}, {"weights": 0.6})])
    assert plain["weights"] == first["A1"] == ("weight", 0, 0.6) and not plain["weights"].diverging
    assert first["difference"] == ("signed weight", -0.1, 0.1) and first["difference"].diverging
    assert second["difference"] == ("signed weight", -0.2, 0.2)  # a map that is signed in one layer is so in all


def test_a_final_map_is_a_weight_whatever_its_name():
    (layer,), _ = scales([maps_of({"A": 0.2, "R": 0.9}), maps_of({"weights": 0.6})])
    assert layer["A"] == layer["R"] == ("weight", 0, 0.9)


def test_keep_masks_that_keep_all_look_alike():
    (layer,) = scales([maps_of({"plain": 0.3, "keep-mask": 0.99999, "combined": 0.3})])[0]
    assert layer["keep-mask"][1:] == (0.9, 1)


def test_a_visible_weight_of_0_is_drawn_and_what_may_not_be_read_is_not():
    from matplotlib.figure import Figure

    maps = maps_of({"A1": 0.5, "positive": 0.5})
    maps.layers[0]["positive"][0, 2, 1] = 0
    canvas = Figure()
    draw_layer(canvas, maps, 0, False, scales([maps])[0][0])
    first, final, change = (axes.images[0].get_array() for axes in canvas.axes[:3])
    for shown in (first, final, change):
        np.testing.assert_array_equal(np.ma.getmaskarray(shown), ~np.tril(np.ones((3, 3), bool)))
    assert final[2, 1] == 0 and change[2, 1] == -0.5


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale("weight", 0, 0.39), [0, 0.09, 0.3]),
        (Scale("weight", 0, 0.1), [0, 0.02, 0.1]),
        (Scale("change", -0.0028, 0.0028), [-0.002, 0, 0.002]),
        (Scale("share kept", 0.9, 1), [0.9, 1]),
    ],
)
def test_ticks_are_short(scale, ticks):
    assert scale.ticks == pytest.approx(ticks)
    assert signed_square(signed_root(np.array(scale.ticks))) == pytest.approx(ticks)


def test_a_caption_names_items_that_are_shown_and_says_what_is_not():
    layer = {"weights": np.array([[[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.4, 0.1, 0.2, 0.3]]])}
    maps = Maps([layer], ["old film", "b", "c", "d"], list("abcd"))
    said = of_user(maps, 0, "target", shown=3)
    assert "old film" not in said and "40% goes further back than is shown." in said
    assert "“d” (30%, the reading position itself); “c” (20%, 1 back)" in said
    assert "old film” (40%, 3 back)" in of_user(maps, 0, "target", shown=4)


def test_an_item_is_called_by_its_title(tmp_path):
    for columns, name in (
        (("item_id:token", "class:token_seq", "movie_title:token_seq"), "movie_title"),
        (("item_id:token", "brand:token", "keywords:token_seq"), "keywords"),
        (("item_id:token", "price:float"), None),
    ):
        path = write(tmp_path, [columns], suffix="item")
        assert title_column(read_header(path, "\t", "utf-8")) == name


@pytest.mark.parametrize(
    ("analyzed", "more", "message"),
    [
        ("blind", {}, "GRU4Rec has no attention to look into"),
        ("users only", {}, "BPR has no attention to look into"),
        ("mended", {"users": "u3,u99,nobody"}, "users = u99, nobody: not in the test set"),
        ("mended", {"baseline": "other data"}, "trained with dataset = chains, but"),
        ("mended", {"baseline": "other items"}, "trained on other data than"),
        ("mended", {"baseline": "other length"}, "MAX_ITEM_LIST_LENGTH = 8, but"),
        ("mended", {"baseline": "blind"}, "GRU4Rec has no attention to look into"),
        ("mended", {"baseline": "Pop"}, "baseline = Pop: no checkpoint, and no model of those looked into"),
        ("mended", {"baseline": "nowhere/*.pth"}, "no file matches"),
        ("mended", {"max_users": 0}, "max_users = 0"),
        ("mended", {"baseline": "last of mended"}, "is of the same training as"),
        ("mended", {"learning_rate": 1}, "learning_rate: has no effect on --analyze"),
        ("mended", {"name": "a/b"}, "name = a/b: must be the plain name of a folder"),
        ("mended", {"data_path": "nowhere"}, "chains"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(trained, capsys, tmp_path, monkeypatch, analyzed, more, message):
    monkeypatch.chdir(tmp_path)
    places = {**trained[1], "last of mended": str(Path(trained[1]["mended"]).with_name("last.pth"))}
    words = {key: places.get(value, value) if key == "baseline" else value for key, value in more.items()}
    words = {"analyze": trained[1][analyzed], **words}
    assert message in mistake([f"--{key}={value}" for key, value in words.items()], capsys)


def test_without_matplotlib_one_line_says_what_is_missing(trained, capsys, monkeypatch):
    monkeypatch.setattr("recbole_attn.analysis.command.available", lambda: False)
    line = mistake([f"--analyze={trained[1]['mended']}"], capsys)
    assert "pip install matplotlib" in line


def test_one_checkpoint_alone_needs_no_control(trained, capsys, tmp_path):
    words = [f"--analyze={trained[1]['refined']}", "--max_users=20", f"--results={tmp_path}", "--name=alone"]
    assert main(words) == 0
    page = (tmp_path / "alone" / "inside.html").read_text()
    assert "No control to compare with" in page and "20 users drawn from all" in page
    assert "User by user" not in page


@pytest.mark.skipif(not BROWSER, reason="Chromium is not installed")
def test_on_a_phone_wide_maps_scroll_and_the_page_does_not(page, tmp_path):
    probe = """<script>
      window.addEventListener("error", (event) => document.title = "error: " + event.message);
      window.addEventListener("load", () => {
        document.body.dataset.wide = document.documentElement.scrollWidth > window.innerWidth;
      });
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", probe))
    seen = chromium(tmp_path / "profile", "--window-size=400,800", "--dump-dom", f"file://{tmp_path / 'page.html'}")
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
    assert "<title>error" not in seen
    assert 'data-wide="false"' in seen
