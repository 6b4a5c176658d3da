"""
Where parameters come from, and which of them wins.

In rising order: the defaults, the preset, ``tso3.toml``, the archive's parameter files ``pars-*.asdf``,
``--set step.parameter=value``, explicit options (or the ``parameters`` of `tso3.run`). An unknown name or a value out
of its bounds raises `tso3.errors.ParameterError` with one line for each fault, which says where the value came from.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tso3.errors import ParameterError, Tso3Warning
from tso3.parameters import PRESETS, Parameters, StepParameters

__all__ = ["Values", "read_assignments", "read_file", "resolve"]

ARCHIVE_CLASSES = {
    "OutlierDetectionStep": "outlier_detection",
    "TSOPhotometryStep": "tso_photometry",
    "PixelReplaceStep": "pixel_replace",
    "Extract1dStep": "extract_1d",
    "PhotomStep": "photom",
    "WhiteLightStep": "white_light",
}
"""Steps of tso3 by the class name in a parameter file of the archive."""

BOOKKEEPING = """
    input_dir output_dir output_ext output_file output_use_index output_use_model post_hooks pre_hooks save_results
    search_output_file suffix
""".split()
"""What every step of the archive's pipeline has and tso3 decides by its command line."""

OTHER_MODES = """
    backg fillval ifu_second_check in_memory kernel kernel_size pixfrac pixmap_order pixmap_stepsize resample_data scale
    threshold_percent weight_type
    bkg_sigma_clip center_xy ifu_autocen ifu_covar_scale ifu_rfcorr ifu_rscale ifu_set_srctype model_nod_pair
    optimize_psf_location soss_atoca soss_bad_pix soss_estimate soss_max_grid_size soss_modelname soss_n_os
    soss_order_3 soss_rtol soss_threshold soss_tikfac soss_wave_grid_in soss_wave_grid_out soss_width
    apply_time_correction inverse mrs_time_correction source_type
""".split()
"""Parameters of the archive's steps for modes that tso3 does not reduce; left out without a word."""


@dataclass(frozen=True)
class Values:
    """
    Parameter values of one origin.

    Attributes
    ----------
    where : str
        The origin, as error messages name it: a file, ``--set``, …
    steps : dict of {str: dict of {str: object}}
        Step → parameter → value, not yet validated.
    preset : str or None
        The preset it asks for.
    """

    where: str
    steps: dict[str, dict[str, Any]]
    preset: str | None = None


def resolve(
    preset: str | None = None,
    files: Sequence[str | Path] = (),
    assignments: Sequence[str] = (),
    explicit: Mapping[str, Any] | Parameters | None = None,
    skip: Iterable[str] = (),
) -> tuple[str, Parameters]:
    """
    Return the parameters of a run from all their origins.

    Parameters
    ----------
    preset : str, optional
        Name of a preset; by default the one that a file asks for, else ``"default"``.
    files : sequence of path, optional
        Parameter files, ``*.toml`` or ``*.asdf``. All TOML files are read before all ASDF files; among files of one
        kind the later wins.
    assignments : sequence of str, optional
        Texts ``"step.parameter=value"``.
    explicit : mapping or Parameters, optional
        Step → parameter → value, the last word. A complete `Parameters` takes the place of everything before it.
    skip : iterable of str, optional
        Names of steps to skip.

    Returns
    -------
    preset : str
        Name of the preset in force.
    parameters : Parameters
        Validated and frozen.

    Raises
    ------
    ParameterError
        If a name is unknown, a value is not allowed, or a file is no parameter file.

    Examples
    --------
    >>> from tso3.config import resolve
    >>> name, parameters = resolve("archive", assignments=["outlier_detection.snr=4"])
    >>> name, parameters.outlier_detection.snr, parameters.outlier_detection.edges
    ('archive', 4.0, 'repeat')
    >>> resolve(assignments=["outlier_detection.snr=-1"])
    Traceback (most recent call last):
    tso3.errors.ParameterError: --set: outlier_detection.snr = -1: must be greater than 0
    """
    paths = sorted((Path(path) for path in files), key=lambda path: path.suffix == ".asdf")
    origins = [read_file(path) for path in paths]
    asked = [preset, *(origin.preset for origin in reversed(origins)), "default"]
    name = next(each for each in asked if each is not None)
    if name not in PRESETS:
        where = next((origin.where for origin in reversed(origins) if origin.preset == name), None)
        where = None if preset is not None else where
        raise ParameterError(f"there is no preset {name!r}{_suggest(name, PRESETS)}", where)
    origins = [Values(f"preset {name}", PRESETS[name]), *origins, read_assignments(assignments)]
    if isinstance(explicit, Parameters):
        origins = [Values("parameters", explicit.model_dump())]
    elif explicit is not None:
        origins.append(Values("parameters", _as_tables(explicit)))
    origins.append(Values("--skip", {step: {"skip": True} for step in skip}))
    return name, _validated(origins)


def read_file(path: str | Path) -> Values:
    r"""
    Read one parameter file.

    Parameters
    ----------
    path : path-like
        ``*.toml``: a table for each step, and ``preset`` at the top. ``*.asdf``: a parameter file of the archive,
        for one step or for the whole Tso3Pipeline. In an ASDF file, names that time series do not need are left out,
        a null where a value is needed means "not set", and what tso3 has no counterpart for is named in a warning.

    Returns
    -------
    values : Values
        Not yet validated.

    Raises
    ------
    ParameterError
        If the file cannot be read as what its name says.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from tso3.config import read_file
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tso3.toml"
    >>> _ = path.write_text('preset = "archive"\n[white_light]\nmax_wavelength = 5.1\n')
    >>> values = read_file(path)
    >>> values.preset, values.steps
    ('archive', {'white_light': {'max_wavelength': 5.1}})
    """
    path = Path(path)
    if not path.is_file():
        raise ParameterError("there is no such parameter file", path)
    match path.suffix.lower():
        case ".toml":
            return _read_toml(path)
        case ".asdf":
            return _read_asdf(path)
    raise ParameterError("a parameter file ends in .toml or .asdf", path)


def read_assignments(assignments: Sequence[str]) -> Values:
    """
    Read texts of the form ``step.parameter=value``.

    Parameters
    ----------
    assignments : sequence of str
        As given after ``--set``; a value of ``none`` is None where the parameter may be None.

    Returns
    -------
    values : Values
        Not yet validated; values are texts or None.

    Raises
    ------
    ParameterError
        If a text has another form.

    Examples
    --------
    >>> from tso3.config import read_assignments
    >>> read_assignments(["extract_1d.bkg_order=1"]).steps
    {'extract_1d': {'bkg_order': '1'}}
    """
    steps: dict[str, dict[str, Any]] = {}
    for text in assignments:
        found = re.fullmatch(r"\s*([\w.-]+)\s*=\s*(.*?)\s*", text)
        if found is None:
            raise ParameterError(f"{text!r} must have the form step.parameter=value", "--set")
        step, dot, name = found[1].partition(".")
        if not dot:
            raise ParameterError(f"{step!r} lacks its step: {_owners(step)}", "--set")
        value = found[2]
        optional = value.lower() in ("none", "null") and _allows_none(step, name)
        steps.setdefault(step, {})[name] = None if optional else value
    return Values("--set", steps)


def _read_toml(path: Path) -> Values:
    import tomllib

    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"is no TOML file: {error}", path) from error
    preset = tree.pop("preset", None)
    if not isinstance(preset, str | None):
        raise ParameterError(f"preset = {preset!r} must be a name{_suggest('', PRESETS)}", path)
    return Values(str(path), _as_tables(tree, path), preset)


def _read_asdf(path: Path) -> Values:
    from tso3.io.opened import opened_asdf

    with opened_asdf(path, "parameter file", ParameterError) as tree:
        return _from_tree(tree, path)


def _from_tree(tree: Mapping[str, Any], path: Path) -> Values:
    """Return the values in the tree of an archive's parameter file."""
    if "class" not in tree or "parameters" not in tree:
        raise ParameterError("is no parameter file: it has no 'class' and 'parameters'", path)
    steps: dict[str, dict[str, Any]] = {}
    unused: list[str] = []
    for entry in [tree, *tree.get("steps", [])]:
        given = {name: value for name, value in (entry.get("parameters") or {}).items() if name not in BOOKKEEPING}
        class_name = str(entry.get("class", "")).rpartition(".")[2]
        if class_name == "Tso3Pipeline":
            continue
        step = ARCHIVE_CLASSES.get(class_name)
        if step is None:
            if not given.get("skip", False):
                unused.append(str(entry.get("name", class_name)))
            continue
        known = _step_model(step).model_fields if step in Parameters.model_fields else {}
        unused += [
            f"{step}.{n}" for n, v in given.items() if n not in (*known, *OTHER_MODES) and v not in (None, False)
        ]
        values = {n: v for n, v in given.items() if n in known and (v is not None or _allows_none(step, n))}
        steps |= {step: values} if values else {}
    if unused:
        warnings.warn(f"{path}: without effect in tso3: {', '.join(unused)}", Tso3Warning, stacklevel=2)
    return Values(str(path), steps)


def _as_tables(tree: Mapping[str, Any], where: Path | None = None) -> dict[str, dict[str, Any]]:
    for step, table in tree.items():
        if isinstance(table, StepParameters):
            continue
        if not isinstance(table, Mapping):
            what = f"there is no step {step!r}{_suggest(step, Parameters.model_fields)}"
            if step in Parameters.model_fields:
                what = f"{step} = {table!r} must be a table of the parameters of that step"
            elif _owners_of(step):
                what = f"{step!r} lacks its step: {_owners(step)}"
            raise ParameterError(what, where)
    return {
        step: table.model_dump(exclude_unset=True) if isinstance(table, StepParameters) else dict(table)
        for step, table in tree.items()
    }


def _validated(origins: Sequence[Values]) -> Parameters:
    merged: dict[str, dict[str, Any]] = {}
    source: dict[tuple[str, str], str] = {}
    faults = []
    for origin in origins:
        for step, table in origin.steps.items():
            for name, value in table.items():
                fault = _unknown(step, name)
                if fault is not None:
                    faults.append(f"{origin.where}: {fault}")
                    continue
                merged.setdefault(step, {})[name] = value
                source[step, name] = origin.where
            if step not in Parameters.model_fields and not table:
                faults.append(f"{origin.where}: {_unknown(step, '')}")
    try:
        parameters = Parameters.model_validate(merged)
    except ValidationError as error:
        faults += _explained(error, source)
    if faults:
        raise ParameterError("\n".join(faults))
    return parameters


def _explained(error: ValidationError, source: Mapping[tuple[str, str], str]) -> list[str]:
    """One line for each parameter at fault: where it came from, its value, what is allowed."""
    lines: dict[tuple[str, ...], str] = {}
    for fault in error.errors():
        location = tuple(str(part) for part in fault["loc"][:2])
        step, name = (*location, "")[:2]
        allowed = fault["msg"].replace("Input should be", "must be").replace("Value error, ", "")
        if "parsing" in fault["type"]:
            allowed = allowed.partition(",")[0]
        if location in lines:  # the other kinds of value that the parameter may have
            lines[location] += f" or {allowed.removeprefix('must be ')}"
            continue
        where = source.get((step, name))
        start = f"{step}.{name} = {_shown(fault['input'])}" if name else f"{step}"
        lines[location] = f"{start}: {allowed}" if where is None else f"{where}: {start}: {allowed}"
    return list(lines.values())


def _shown(value: Any) -> str:
    """A value as a user would have typed it; long ones shortened."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(step: str, name: str) -> str | None:
    """What is wrong with the name of a parameter, or None."""
    if step not in Parameters.model_fields:
        return f"there is no step {step!r}{_suggest(step, Parameters.model_fields)}"
    fields = _step_model(step).model_fields
    if name in fields:
        return None
    if name == "skip":
        able = [s for s in Parameters.model_fields if "skip" in _step_model(s).model_fields]
        return f"{step} cannot be skipped; {_listed(able)} can"
    elsewhere = _owners_of(name)
    if elsewhere:
        return f"{step} has no parameter {name!r}; did you mean {_listed(elsewhere)}?"
    return f"{step} has no parameter {name!r}{_suggest(name, fields)}"


def _suggest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    close = close or [k for k in known if len(name) > 2 and (name.lower() in k or k in name.lower())]
    return f"; did you mean {_listed(close)}?" if close else f"; known are {_listed(known, 'and')}"


def _listed(words: Sequence[str], last: str = "or") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _owners_of(name: str) -> list[str]:
    return [f"{step}.{name}" for step in Parameters.model_fields if name in _step_model(step).model_fields]


def _owners(name: str) -> str:
    owners = _owners_of(name)
    return f"write {_listed(owners)}" if owners else "write step.parameter"


def _step_model(step: str) -> type[StepParameters]:
    model = Parameters.model_fields[step].annotation
    if not (isinstance(model, type) and issubclass(model, StepParameters)):
        raise TypeError(f"Parameters.{step} is declared as {model!r}, which is no StepParameters")
    return model


def _allows_none(step: str, name: str) -> bool:
    if step not in Parameters.model_fields:
        return False
    field = _step_model(step).model_fields.get(name)
    if field is None:
        return False
    union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
    return union and type(None) in typing.get_args(field.annotation)
