"""The report: the same numbers in every form, complete in itself, and drawn by a browser as it should be."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from comparisons import SMALL_ATTENTION, fork_trials, options, results, run, write_result
from runs import PATIENCE, write_chains

from recbole_attn.compare.board import Board
from recbole_attn.compare.outcome import Line
from recbole_attn.compare.plan import read_plan
from recbole_attn.compare.report.blocks import Cell, Grid, Section, Text
from recbole_attn.compare.report.figures import group_edges, group_names, style_of
from recbole_attn.compare.report.html import to_html
from recbole_attn.compare.report.markdown import to_markdown
from recbole_attn.compare.report.sweeps import sweeps
from recbole_attn.compare.report.tabular import escape
from recbole_attn.compare.report.warnings import _seeds, warnings
from recbole_attn.compare.statistics import Comparison
from recbole_attn.compare.store import Store, write_json
from recbole_attn.compare.trial import report_progress
from recbole_attn.compare.trials import trials_of

ALONG_TIME = {"split": {"TS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO"}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a comparison of three rows, one of which failed with every seed."""
    folder = tmp_path_factory.mktemp("report")
    write_chains(folder)
    with pytest.MonkeyPatch.context() as patch:
        fork_trials(patch)
        patch.chdir(folder)
        text, failed = run(folder, model="Pop,BPR,SASRec", seeds=2, baseline="Pop", **{"SASRec.learning_rate": 1e30})
    assert failed == 2
    (folder / "printed.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def folder(report):
    return report / "results" / "chains"


def test_the_table_on_the_terminal_says_what_the_trials_found(report):
    printed = (report / "printed.txt").read_text()
    scores = [result["test"]["ndcg@10"] for (row, _), result in results(report).items() if row == "BPR"]
    (line,) = [line for line in printed.splitlines() if line.startswith("BPR ")]
    _, ndcg, _ = re.findall(r"([.\d]+) ±", line)
    assert float(ndcg) == pytest.approx(np.mean(scores), abs=1e-4)
    assert "failed: SASRec, seed 2020" in printed
    assert "Pop, BPR: no histories are read" in printed


def test_the_csv_holds_every_trial_and_metric_unrounded(report, folder):
    records = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
    assert {record["status"].split(":")[0] for record in records} == {"done", "failed"}
    done = [record for record in records if record["status"] == "done"]
    assert len(done) == 2 * 2 * 12
    for record in done:
        result = results(report)[record["row"], int(record["seed"])]
        assert round(float(record["test"]), 4) == result["test"][record["metric"]]


def test_a_metric_without_values_of_users_is_shown_and_not_tested(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    fork_trials(monkeypatch)
    text, failed = run(tmp_path, model="Pop,BPR", seeds=2, metrics="[Recall,GAUC]", valid_metric="Recall@10")
    assert failed == 0
    found = [float(results(tmp_path)["BPR", seed]["test"]["gauc"]) for seed in (2020, 2021)]
    assert re.search(rf"Recall@10 +GAUC[^*]*BPR [^*]*{np.mean(found):.4f} ± {np.std(found, ddof=1):.4f}", text)
    folder = tmp_path / "results" / "chains"
    records = csv.DictReader(io.StringIO((folder / "results.csv").read_text()))
    shown = [record for record in records if record["metric"] == "gauc" and record["row"] == "BPR"]
    assert [float(record["test"]) for record in shown] == found
    assert "| BPR | GAUC |" not in (folder / "report.md").read_text()  # a difference from the baseline


def test_markdown_and_html_have_the_same_tables(folder):
    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    for heading in re.findall(r"^## (.*)$", text, re.MULTILINE):
        assert f"<h2>{heading}</h2>" in page
    for number in re.findall(r"\d\.\d{4}", text):
        assert number in page


@pytest.mark.parametrize(
    "part",
    [
        "Failed trials; the same command tries them again.",
        "Fewer than 3 seeds (2)",
        "Stopped by the limit of 2 epochs, so perhaps under-trained: BPR (2 of 2 seeds)",
        "Targets that tie with other items",
        "Leave-one-out leaks across time",
        "Peak memory",
        "seen items stay among the candidates",
        "fingerprint",
        "commit",
        "torch",
    ],
)
def test_the_report_names_what_a_reader_must_know(folder, part):
    assert part.lower() in (folder / "report.md").read_text().lower()


def test_the_page_loads_nothing_from_elsewhere(folder):
    page = (folder / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#)', re.sub(r'xlink:href="#', "", page))
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org|purl\.org|creativecommons|matplotlib)", page)


def test_every_id_of_the_page_is_its_own(folder):
    ids = re.findall(r'<section id="([^"]+)"', (folder / "report.html").read_text())
    assert len(ids) == len(set(ids)) > 5


def test_figures_take_their_colours_from_the_page(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<svg ") == 5
    drawn = "".join(re.findall(r"<svg .*?</svg>", page, re.DOTALL))
    assert "var(--series-0)" in drawn and "var(--ink)" in drawn
    assert not re.search(r"#(?:0072b2|1f2328|ffffff)", drawn)
    assert len(list((folder / "figures").glob("*.svg"))) == 5


def test_what_a_user_names_cannot_break_the_page():
    section = Section("<b>", [Grid(["<i>"], [[Cell("<script>|&", best=True)]]), Text("a < b", ["<li>"])])
    page, text = to_html("<title>", [section]), to_markdown("t", [section])
    for tag in ("<b>", "<i>", "<script>|", "<li><li>", "<title><title>"):
        assert tag not in page
    assert "**<script>\\|&**" in text
    assert escape("a_b & 5% of {x}") == r"a\_b \& 5\% of \{x\}"


def test_the_latex_table_is_whole(folder):
    text = (folder / "table.tex").read_text()
    assert text.count(r"\\") == 5
    assert text.count("{") == text.count("}")
    assert "NDCG@10" in text and r"\mathbf" in text and "failed" in text
    assert r"($\downarrow$: is worse)" in text and r"p \textless{} .05" in text and "if it uses any" in text
    assert "%" not in text.replace(r"\%", "")


def test_a_row_that_is_significantly_worse_is_marked_as_such():
    def mark(difference, p):
        against = {"ndcg@10": Comparison(difference, 0.0, 0.0, p, p, 0.0, 9)}
        return Line("row", "Pop", [], [], [], {}, against, {"ndcg@10": p}).mark("ndcg@10")

    assert [mark(-0.1, 0.001), mark(0.1, 0.001), mark(-0.1, 0.5)] == ["↓**", "**", ""]
    assert Line("row", "Pop", [], [], [], {}, {}, {}).mark("ndcg@10") == ""


def test_groups_hold_about_equally_many_and_leave_nothing_out():
    values = np.random.default_rng(0).poisson(20, size=1000)
    edges = group_edges(values)
    members = [((values >= low) & (values <= high)).sum() for low, high in edges]
    assert sum(members) == 1000
    assert min(members) > 150
    assert group_names(group_edges(np.array([3, 3, 3, 9]))) == ["3", "4–9"]
    assert group_names(group_edges(np.array([3, 3]))) == ["3"]


def test_a_row_that_is_trained_in_one_pass_says_so_wherever_it_is_shown(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    fork_trials(monkeypatch)
    (tmp_path / "rows.yaml").write_text(
        "compare: {name: rows, baseline: velox, rows: {prefixes: {model: AttnSASRec},"
        " velox: {model: AttnSASRec, training: sequence}, in one pass: {model: FocusedSASRec, training: sequence}}}"
    )
    printed, _ = run(tmp_path, config_files=tmp_path / "rows.yaml", **SMALL_ATTENTION)
    found = tmp_path / "results" / "rows"
    shown = {file.name: file.read_text() for file in found.iterdir() if file.suffix in (".md", ".html", ".csv", ".tex")}
    shown |= {"terminal": printed, "figure": (found / "figures" / "chains-cost.svg").read_text()}
    for place, text in shown.items():
        assert "velox (one pass)" in text, place
        assert not re.search(r"(?<!-)\bvelox\b(?! \(one pass\))", text), place
        assert "prefixes (one" not in text and "in one pass (one" not in text, place
    assert "Against velox (one pass) on chains" in shown["report.md"]


def test_the_report_says_what_the_codes_of_items_are_like(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    fork_trials(monkeypatch)
    settings = {"model": "Pop,RPG", "seeds": 2, "quantizer": "rq", "n_codes": 2, "code_bits": 2, **SMALL_ATTENTION}
    assert run(tmp_path, **settings)[1] == 0
    made = [result["semantic_ids"] for (row, _), result in sorted(results(tmp_path).items()) if row == "RPG"]
    assert [made[0][key] for key in ("item_vectors", "quantizer", "n_codes")] == ["interactions", "rq", 2]
    measured = [
        np.mean([ids["collision_rate"] for ids in made]),
        np.mean([min(ids["code_usage"]) for ids in made]),
        np.mean([ids["code_usage"] for ids in made]),
        np.mean([ids["reconstruction_error"] for ids in made]),
    ]
    sizes = f"2 × {made[0]['n_values']}"
    expected = ["RPG (one pass)", "interactions", "rq", sizes, *(f"{value:.4f}" for value in measured)]
    folder = tmp_path / "results" / "chains"
    section = (folder / "report.md").read_text().split("## Semantic ids on chains")[1].split("##")[0]
    assert [line.strip("| ").split(" | ") for line in section.splitlines() if "RPG" in line] == [expected]
    assert "Pop" not in section
    page = (folder / "report.html").read_text().split("<h2>Semantic ids on chains</h2>")[1]
    assert all(f">{text}</t" in page for text in expected)
    for file in folder.glob("*/result.json"):  # as results were before they had it
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "semantic_ids"}))
    assert run(tmp_path, **settings)[1] == 0
    assert "Semantic ids" not in (folder / "report.md").read_text()


def table_of(baseline, **configs):
    lines = [SimpleNamespace(name=name, results=[{"config": config}]) for name, config in configs.items()]
    return SimpleNamespace(finished=lines, baseline=baseline)


def test_rows_that_move_one_number_of_the_baseline_are_a_sweep():
    base = {"model": "FAIR", "seed": 1, "alpha": 0.1, "n_codes": 16, "whiten": True, "quantizer": "opq"}
    table = table_of(
        "base",
        none={**base, "alpha": 0},
        base=base,
        much={**base, "alpha": 1, "seed": 2, "data_path": "elsewhere"},
        fewer={**base, "n_codes": 8},  # two values are no sweep
        both={**base, "alpha": 2, "n_codes": 8},
        plain={**base, "whiten": False},
        other={**base, "quantizer": "pq"},
        RPG={**base, "model": "RPG"},
    )
    found = {setting: [(value, line.name) for value, line in points] for setting, points in sweeps(table).items()}
    assert found == {"alpha": [(0, "none"), (0.1, "base"), (1, "much")]}
    assert sweeps(table_of("failed", none=base)) == {}


def test_a_sweep_has_a_figure_with_a_panel_for_each_setting(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    fork_trials(monkeypatch)
    moved = [("embedding_size", value) for value in (4, 16)] + [("learning_rate", value) for value in (0.01, 0.1)]
    rows = {"base": {"model": "BPR", "embedding_size": 8}, "Pop": {}} | {
        f"{key} {value}": {"model": "BPR", "embedding_size": 8, key: value} for key, value in moved
    }
    (tmp_path / "rows.yaml").write_text(json.dumps({"compare": {"name": "rows", "baseline": "base", "rows": rows}}))
    assert run(tmp_path, config_files=tmp_path / "rows.yaml", seeds=2)[1] == 0
    found = tmp_path / "results" / "rows"
    drawn = (found / "figures" / "chains-sweeps.svg").read_text()
    assert all(f">{text}<" in drawn for text in ("embedding_size", "learning_rate", "value of base", "test", "16"))
    assert "NDCG@10 against embedding_size, learning_rate" in (found / "report.md").read_text()
    assert (found / "report.html").read_text().count("<svg ") == 6


def test_rows_of_many_colours_are_told_apart_without_lines():
    looks = [(look["color"], look["marker"], look["fillstyle"]) for look in map(style_of, range(24))]
    assert len(set(looks)) == 24


def seeds_warned_of(planned, **finished):
    lines = [SimpleNamespace(name=name, results=[{}] * count) for name, count in finished.items()]
    return _seeds(SimpleNamespace(plan=SimpleNamespace(seeds=planned)), SimpleNamespace(finished=lines))


def test_the_seeds_that_count_are_those_that_finished():
    assert seeds_warned_of(5, Pop=5, BPR=3) == []
    assert seeds_warned_of(1, Pop=1, BPR=1) == [
        "Fewer than 3 seeds (1): their spread says little, and stars say "
        "nothing of what another seed would give; add --seeds=5."
    ]
    (one,) = seeds_warned_of(5, Pop=5, BPR=2)
    assert one.startswith("Fewer than 3 seeds (BPR: 2): ") and one.endswith("the same command tries the others again.")
    assert "(Pop: 2, BPR: 1)" in seeds_warned_of(2, Pop=2, BPR=1)[0]


def doubts_of(eval_args, **seconds):
    """What is warned of where the seeds of each row took so many seconds an epoch."""
    data, protocol = {"items": 9, "test rows": 4}, {"eval_args": {"mode": "full", **eval_args}, "epochs": 9}
    lines = {
        name: [
            {"seconds_per_epoch": took, "data": data, "data_digest": "a", "stop_reason": "", "computed": False}
            for took in epochs
        ]
        for name, epochs in seconds.items()
    }
    targets = SimpleNamespace(user=np.array(["u", "v"]), target=np.array(["i", "j"]))
    finished = [
        SimpleNamespace(name=name, results=made, ranks=[targets] * len(made), average=lambda _: 0)
        for name, made in lines.items()
    ]
    table = SimpleNamespace(finished=finished, protocol=protocol)
    say = partial(warnings, SimpleNamespace(plan=SimpleNamespace(seeds=3, tune={}, rows=[])), table)
    return say, lines, finished


def test_rows_that_were_tested_on_different_data_are_named():
    say, lines, finished = doubts_of(ALONG_TIME, Pop=[1, 1, 1], BPR=[1, 1, 1])
    assert say() == []
    finished[1].ranks[2] = SimpleNamespace(user=np.array(["v", "u"]), target=np.array(["j", "i"]))
    assert say() == []  # another order
    finished[1].ranks[2] = SimpleNamespace(user=np.array(["u", "v"]), target=np.array(["j", "i"]))
    (doubt,) = say()
    finished[1].ranks[2] = finished[1].ranks[0]
    assert re.search(r"Pop, BPR \(.*targets \w{8}\); BPR \(", doubt)
    lines["BPR"][1]["data"] = {"items": 8, "test rows": 4}
    (doubt,) = say()
    assert doubt.startswith("Rows were tested on different data")
    assert re.search(r"Pop, BPR \(9 items, 4 test rows, files a, .*\); BPR \(8 items, 4 test rows, files a, ", doubt)


def test_costs_of_a_busy_machine_are_doubted():
    assert doubts_of(ALONG_TIME, Pop=[1, 1.4, 1.2])[0]() == []
    assert doubts_of(ALONG_TIME, Pop=[0.1, 0.4, 0.2])[0]() == []
    (doubt,) = doubts_of(ALONG_TIME, Pop=[1, 1, 1], BPR=[2, 4, 3])[0]()
    assert doubt.startswith("Costs are no measure of speed") and doubt.endswith(": BPR (2 to 4).")


@pytest.mark.parametrize(
    ("split", "leaks"),
    [
        ({"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}, "Leave-one-out leaks across time"),
        ({"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO"}, "This split leaks across time"),
        ({"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none", "order": "TO"}, ""),
        (ALONG_TIME, ""),
    ],
)
def test_every_split_that_leaks_across_time_says_so(split, leaks):
    doubts = doubts_of(split, Pop=[1, 1, 1])[0]()
    assert [doubt[: len(leaks)] for doubt in doubts] == ([leaks] if leaks else [])


def test_a_row_may_have_any_name(tmp_path, monkeypatch):
    write_chains(tmp_path)
    monkeypatch.chdir(tmp_path)
    fork_trials(monkeypatch)
    (tmp_path / "rows.yaml").write_text("compare: {rows: {'A $\\foo$': {model: Pop}, _base: {model: BPR}}}")
    assert run(tmp_path, config_files=tmp_path / "rows.yaml")[1] == 0
    drawn = (tmp_path / "results" / "rows" / "figures" / "chains-cost.svg").read_text()
    assert "A $\\foo$" in drawn and "_base" in drawn


def chromium(folder, *arguments):
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    alone = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags = ["--headless", "--hide-scrollbars", *alone, *quiet]
    command = [BROWSER, *flags, f"--user-data-dir={folder}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


@pytest.mark.skipif(not BROWSER, reason="Chromium is not installed")
def test_a_browser_sorts_the_tables_and_no_script_fails(folder, tmp_path):
    page = (folder / "report.html").read_text()
    probe = """<script>
      window.addEventListener("error", (event) => document.title = "error: " + event.message);
      window.addEventListener("load", () => {
        const table = document.querySelector("table"), button = table.querySelectorAll("th button")[2];
        const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(" ");
        const seen = [order()];
        button.click(); seen.push(order()); button.click(); seen.push(order());
        const words = table.querySelector("th button");
        for (let click = 0; click < 3; click++) { words.click(); seen.push(order()); }
        document.body.dataset.orders = seen.join("; ");
        document.body.dataset.wide = document.documentElement.scrollWidth > window.innerWidth;
      });
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", probe))
    seen = chromium(tmp_path / "profile", "--window-size=400,800", "--dump-dom", f"file://{tmp_path / 'page.html'}")
    assert "<title>error" not in seen
    first, falling, rising, *by_name = re.search('data-orders="([^"]*)"', seen)[1].split("; ")
    assert first == "Pop BPR SASRec"
    assert falling.split()[2] == "SASRec" and sorted(falling.split()) == sorted(first.split())
    assert rising.split()[:2] == falling.split()[1::-1] or rising.split()[0] == falling.split()[1]
    assert by_name == ["BPR Pop SASRec", "SASRec Pop BPR", "BPR Pop SASRec"]
    assert 'data-wide="false"' in seen  # a phone scrolls tables, not the page


@pytest.mark.skipif(not BROWSER, reason="Chromium is not installed")
def test_the_page_is_dark_where_the_reader_wants_it(folder, tmp_path):
    ground = {}
    for scheme, flags in {"light": [], "dark": ["--blink-settings=preferredColorScheme=0"]}.items():
        image = tmp_path / f"{scheme}.png"
        chromium(
            tmp_path / scheme,
            *flags,
            "--window-size=500,400",
            f"--screenshot={image}",
            f"file://{folder / 'report.html'}",
        )
        ground[scheme] = first_pixel(image)
    assert ground["light"] == (255, 255, 255)
    assert max(ground["dark"]) < 40


def first_pixel(file):
    """Red, green and blue of the upper left corner of a PNG."""
    data, chunks, place = file.read_bytes(), b"", 8
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        chunks += data[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        place += size + 12
    return tuple(zlib.decompress(chunks)[1:4])


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def watched(report, terminal):
    plan = read_plan(options(report, model="Pop,BPR,SASRec", seeds=2, baseline="Pop", **{"SASRec.learning_rate": 1e30}))
    trials = [trial for row in plan.rows for trial in trials_of(plan, row)]
    screen = Screen(terminal)
    return trials, screen, Board(Store(report / "results" / "chains"), trials, wanted=[], at_once=1, stream=screen)


def test_without_a_terminal_progress_is_plain_lines(report):
    trials, screen, board = watched(report, terminal=False)
    board([trials[0]])
    board([])
    lines = screen.getvalue().splitlines()
    assert lines[0] == "4 done, 2 failed"
    assert lines[1] == "running  Pop, chains, seed 2020"
    assert lines[2].startswith("done     Pop, chains, seed 2020: 1 epochs")
    assert "\x1b" not in screen.getvalue()


def test_without_a_terminal_a_line_says_now_and_then_how_far_a_trial_is(report, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("recbole_attn.compare.board.monotonic", lambda: now[0])
    trials, screen, board = watched(report, terminal=False)
    for minute in range(25):
        now[0] = 60.0 * minute
        board([trials[0]])
    lines = screen.getvalue().splitlines()[2:]
    assert len(lines) == 4
    assert re.match(r"running  Pop, chains, seed 2020: epoch \d+, best 0\.\d{4} in epoch \d+, .* s each", lines[0])
    assert lines[1].startswith("3 done, 2 failed, 1 running")


def test_on_a_terminal_the_table_shows_the_epoch_and_is_drawn_over(report):
    trials, screen, board = watched(report, terminal=True)
    progress = {"epoch": 3, "limit": 200, "best": 0.1234, "best_epoch": 1, "seconds_per_epoch": 2.0}
    file = report / "results" / "chains" / trials[2].key / "progress.json"
    file.write_text(json.dumps(progress))
    board([trials[2]])
    first = screen.getvalue()
    assert "BPR     chains       1 done, 1 running" in first
    assert "epoch 3, best 0.1234 in epoch 2, 2.0 s each" in first
    board([])
    assert screen.getvalue()[len(first) :].startswith("\x1b[5F\x1b[J")


def test_on_a_low_terminal_the_end_of_the_table_is_drawn_over(report, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((80, 3)))
    trials, screen, board = watched(report, terminal=True)
    board([trials[2]])
    first = screen.getvalue()
    assert [line.split(",")[0] for line in first.splitlines()] == ["  BPR", "3 done"]
    board([])
    assert screen.getvalue()[len(first) :].startswith("\x1b[2F\x1b[J")


def left(folder, plan, at_once, **progress):
    """What the board says of the time left when the first trial of every named row is running."""
    trials = [trial for row in plan.rows for trial in trials_of(plan, row)]
    store = Store(folder)
    running = []
    for row, (epoch, seconds) in progress.items():
        running.append(next(trial for trial in trials if trial.row == row))
        shown = {"epoch": epoch, "limit": 100, "best": 0.1, "best_epoch": 0, "seconds_per_epoch": seconds}
        write_json(store.prepare(running[-1]) / "progress.json", shown)
    board = Board(store, trials, trials, at_once, stream=Screen(terminal=True))
    board(running)
    return board.lines(running)[-1]


def test_before_a_trial_has_finished_its_last_epoch_bounds_the_time_left(report, tmp_path):
    plan = read_plan(options(report, model="BPR,SASRec", seeds=2))
    assert left(tmp_path, plan, 1) == "4 waiting"
    alone = left(tmp_path, plan, 1, BPR=(40, 3.0))  # 180 s of its own, 300 s each of the three others
    assert alone == "1 running, 3 waiting; at most 18 min left"
    assert left(tmp_path, plan, 2, BPR=(40, 3.0), SASRec=(0, 6.0)).endswith("; at most 14 min left")


def test_finished_trials_tell_more_than_the_limit(report, tmp_path):
    plan = read_plan(options(report, model="BPR", seeds=3))
    (store, first) = Store(tmp_path), trials_of(plan, plan.rows[0])[0]
    write_result(store, first, seconds=600)
    write_json(store.of(first) / "progress.json", {"epoch": 9, "limit": 100, "seconds_per_epoch": 60})
    trials = trials_of(plan, plan.rows[0])
    boards = [Board(store, trials, trials, 1, stage, Screen(True)) for stage in ("", "the grid")]
    assert [board.lines([])[-1] for board in boards] == [
        "1 done, 2 waiting; about 20 min left",
        "1 done, 2 waiting; about 20 min left of the grid",
    ]


def test_the_progress_of_a_trial_has_what_the_board_reads(tmp_path):
    spent = SimpleNamespace(train_seconds=2.0, valid_seconds=None)
    trainer = SimpleNamespace(history=[spent], best_valid_score=0.1, best_epoch=0, epochs=7)
    report_progress(tmp_path, trainer, 0, 0.1)
    assert json.loads((tmp_path / "progress.json").read_text()) == {
        **{"epoch": 1, "limit": 7, "best": 0.1, "best_epoch": 0},
        "seconds_per_epoch": 2.0,
    }


def test_without_matplotlib_the_report_says_what_figures_need(report, monkeypatch):
    monkeypatch.setattr("recbole_attn.compare.report.figures.available", lambda: False)
    again = {"seeds": 2, "baseline": "Pop", "results": report / "results"}
    fork_trials(monkeypatch)
    run(report, model="Pop,BPR", **again)
    assert "pip install matplotlib" in (report / "results" / "chains" / "report.md").read_text()
