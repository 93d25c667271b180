"""From the command line and YAML files to what a comparison is made of: rows, data sets and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_attn.config.command_line import run_options, spell
from recbole_attn.config.layers import Layer, read_user_file
from recbole_attn.errors import UserError

SECTIONS = {
    "compare": ("name", "results", "baseline", "seeds", "rows"),
    "tune": None,
}


class Row(NamedTuple):
    """One line of the table: a model, and the layers of settings that are its own, the weakest first."""

    name: str
    model: str
    layers: tuple[Layer, ...] = ()


class Plan(NamedTuple):
    """A comparison as it was asked for.

    Attributes:
        folder: where its results go.
        shared: layers of settings for every row that has them, the weakest first.
        seeds: how many; the first one is the setting `seed`.
        baseline: name of the row that the others are compared with.
        tune: row name -> grid, as it stands in the YAML file.
        command: the command line that asks for it.
        devices: types of device that trials may find where they run; None for this machine's.
    """

    folder: Path
    rows: tuple[Row, ...]
    datasets: tuple[str, ...]
    shared: tuple[Layer, ...]
    seeds: int
    baseline: str
    tune: dict[str, Any]
    command: str
    devices: frozenset[str] | None = None


def is_comparison(options: Mapping[str, Any]) -> bool:
    """Do these options ask for a comparison rather than for one run?"""
    if any(options.get(other) for other in ("checkpoint", "resume", "predict")):
        return False
    given = [options, *(file.values for file in _files(options))]
    several = any("," in str(values.get(name, "")) for values in given for name in ("model", "dataset"))
    return several or bool(options.get("seeds")) or any(section in values for values in given for section in SECTIONS)


def read_plan(options: Mapping[str, Any]) -> Plan:
    """The comparison that a command line, with its config files, asks for.

    Raises:
        UserError: a row that stands twice or has no model, a section or a number that is not allowed.
    """
    files = _files(options)
    compare, tune = (_section(files, section) for section in SECTIONS)
    beside = set(run_options()) - {"k"}  # which is a setting of some models as well
    spoken = Layer("command line", _without(options, beside))
    layers = [Layer(file.origin, _without(file.values, SECTIONS)) for file in files] + [spoken]
    given = {key: value for layer in layers for key, value in layer.values.items()} | dict(options)
    rows = _rows(compare, options, given, layers)
    own = {name for row in rows for name in (row.name, row.model)}
    datasets = _names("dataset", given)
    _known_rows(tune, rows)
    seeds = options.get("seeds", compare.get("seeds", 1))
    return Plan(
        folder=_results(options, compare) / _folder_name(options, compare, files, datasets),
        rows=tuple(rows),
        datasets=tuple(datasets),
        shared=tuple(Layer(layer.origin, _without(layer.values, {*own, "model", "dataset"})) for layer in layers),
        seeds=run_options()["seeds"].check(seeds, "compare.seeds"),
        baseline=_baseline(options.get("baseline") or compare.get("baseline"), rows),
        tune=tune,
        command=spell({name: value for name, value in options.items() if name not in ("jobs", "rerun", "report_only")}),
    )


def _files(options: Mapping[str, Any]) -> list[Layer]:
    return [read_user_file(file) for file in str(options.get("config_files") or "").split()]


def _section(files: list[Layer], section: str) -> dict[str, Any]:
    """What the last file that has this section says in it."""
    found: dict[str, Any] = {}
    for file in files:
        values = file.values.get(section, {}) or {}
        allowed = SECTIONS[section]
        if not isinstance(values, dict):
            raise UserError(f"{section} ({file.origin}): must be a mapping, not {values!r}")
        for key in values:
            if allowed and key not in allowed:
                raise UserError(f"{section}.{key} ({file.origin}) is unknown: {section} has {', '.join(allowed)}")
        found.update({str(key): value for key, value in values.items()})
    return found


def _without(values: Mapping[str, Any], names) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


def _names(key: str, given: Mapping[str, Any]) -> list[str]:
    value = given.get(key)
    names = [str(name).strip() for name in (value if isinstance(value, list) else str(value or "").split(","))]
    if not all(names):
        raise UserError(f"{key} = {value!r}: give one or several names, parted by commas")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key} = {value}: {name} is given twice; name it once")
    return names


def _rows(compare: Mapping, options: Mapping, given: Mapping, layers: list[Layer]) -> list[Row]:
    named = compare.get("rows")
    if named is not None and not (isinstance(named, dict) and named):
        raise UserError("compare.rows: must map names of rows to their settings, as in {SASRec: {}, ...}")
    if named is not None and options.get("model"):
        raise UserError(
            f"model = {options['model']}: the YAML file lists rows already ({', '.join(map(str, named))}); leave one "
            "of the two out"
        )
    if named is not None:
        return [_row(name, settings, layers) for name, settings in named.items()]
    return [Row(name, name, _own(name, name, layers)) for name in _names("model", given)]


def _row(name: str, settings: Any, layers: list[Layer]) -> Row:
    settings = {} if settings is None else settings
    if not isinstance(settings, dict):
        raise UserError(f"compare.rows.{name} = {settings!r}: must be a mapping, as in {{model: AWRSR}}")
    if not str(name).isprintable():
        raise UserError(f"compare.rows: {str(name)!r} is no name for a row; write it in one line")
    model = str(settings.get("model", name))
    asked = Layer(f"compare.rows.{name}", _without(settings, {"model"}))
    refuse_other_rows(asked)
    *files, spoken = layers
    return Row(str(name), model, (*_own(name, model, files), asked, *_own(name, model, [spoken])))


def _own(name: str, model: str, layers: list[Layer]) -> tuple[Layer, ...]:
    """The settings under `MODEL.` and `ROW.`, in each layer."""
    keys = dict.fromkeys((model, name))
    found = [(layer, key, layer.values[key]) for layer in layers for key in keys if key in layer.values]
    for layer, key, values in found:
        if not isinstance(values, dict):
            raise UserError(f"{key} = {values!r} ({layer.origin}): write {key}.SETTING=VALUE")
    own = tuple(Layer(f"{layer.origin}, {key}", values) for layer, key, values in found)
    for layer in own:
        refuse_other_rows(layer)
    return own


def refuse_other_rows(layer: Layer) -> None:
    """What a row is of cannot be one of its settings: it would be shown and have no effect."""
    for name in ("model", "dataset"):
        if name in layer.values:
            raise UserError(
                f"{name} = {layer.values[name]} ({layer.origin}): a row's settings do not say what it is of; write "
                + ("compare: {rows: {NAME: {model: MODEL}}}" if name == "model" else "dataset for all rows")
            )


def _known_rows(tune: Mapping, rows: list[Row]) -> None:
    names = [row.name for row in rows]
    for name in tune:
        if name not in names:
            raise UserError(f"tune.{name}: there is no such row; the rows are {', '.join(names)}")


def _baseline(asked: Any, rows: list[Row]) -> str:
    """The row that is asked for; else the row SASRec, else the first."""
    names, asked = [row.name for row in rows], None if asked is None else str(asked)
    if asked is None:
        return "SASRec" if "SASRec" in names else names[0]
    if asked not in names:
        raise UserError(f"baseline = {asked}: there is no such row; the rows are {', '.join(names)}")
    return asked


def _results(options: Mapping, compare: Mapping) -> Path:
    option = run_options()["results"]
    return Path(options.get("results") or option.check(compare.get("results", option.default), "compare.results"))


def _folder_name(options: Mapping, compare: Mapping, files: list[Layer], datasets: list[str]) -> str:
    """Of the folder under results/: what is asked for, else the YAML file's name, else the data sets'."""
    described = [Path(file.origin).stem for file in files if "compare" in file.values]
    name = str(options.get("name") or compare.get("name") or (described or ["+".join(datasets)])[-1])
    if name in (".", "..") or Path(name).name != name:
        raise UserError(f"name = {name}: must be the plain name of a folder")
    return name
