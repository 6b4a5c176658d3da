"""Many observations in one call: which there are among the inputs, and one run after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tso3.config import resolve
from tso3.errors import InputError, OutputError, ParameterError, ReferenceFileError, Tso3Error, Tso3Warning
from tso3.io.association import Association, expand_inputs, read_association

if TYPE_CHECKING:
    from tso3.result import RunResult

__all__ = ["Outcome", "Source", "check_options", "find_observations", "reduce_all", "run_many"]


@dataclass(frozen=True)
class Source:
    """
    One observation among the inputs.

    Attributes
    ----------
    name : str
        Its product name; the name of the association's file if there is an error; for files what their names share.
    inputs : tuple of Path
        What `tso3.run` takes: the association, or the files.
    error : Tso3Error or None
        Why it cannot be reduced, if that is known from the associations alone.
    """

    name: str
    inputs: tuple[Path, ...]
    error: Tso3Error | None = None


@dataclass(frozen=True)
class Outcome:
    """
    What became of one observation: a result or an error.

    Attributes
    ----------
    name : str
        As of its `Source`.
    result : RunResult or None
        What `tso3.run` gave; None if it failed.
    error : Tso3Error or None
        Why it failed.
    """

    name: str
    result: RunResult | None = None
    error: Tso3Error | None = None


def run_many(
    inputs: str | Path | Sequence[str | Path], output_dir: str | Path = ".", **options: Any
) -> tuple[Outcome, ...]:
    """
    Reduce several observations, one after the other; one that fails does not stop the others.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        Associations, or patterns or folders of them, as `tso3.io.association.expand_inputs` takes them; files are one
        observation, as for `tso3.run`.
    output_dir : path-like, optional
        Folder of all products; made if it does not exist.
    **options
        As of `tso3.run`. They apply to every observation; a reference or a table of times that does not fit one of
        them is an error of that one.

    Returns
    -------
    outcomes : tuple of Outcome
        One for each observation, in the order given.

    Raises
    ------
    Tso3Error
        Before anything is read or written, if the fault is in what all observations share: an input that does not
        exist, associations among files, parameters, options, files of references that do not exist.
    """
    sources = find_observations(inputs)
    check_options(output_dir, **options)
    from tso3.pipeline import run

    return reduce_all(sources, lambda source: run(source.inputs, output_dir, **options))


def reduce_all(
    sources: Sequence[Source],
    reduce: Callable[[Source], RunResult | None],
    told: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:
    """
    Reduce observations one after the other; one that fails does not stop the others.

    Parameters
    ----------
    sources : sequence of Source
        The observations.
    reduce : callable
        Reduces one of them. A `Tso3Error`, or an error of the operating system, is the fault of that observation;
        anything else ends everything.
    told : callable, optional
        Is given each outcome when it is there; first those of the observations that are known to fail.

    Returns
    -------
    outcomes : tuple of Outcome
        One for each observation, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    for index in sorted(range(len(sources)), key=lambda i: sources[i].error is None):
        source = sources[index]
        outcome = Outcome(source.name, error=source.error) if source.error is not None else _attempt(source, reduce)
        outcomes[index] = outcome
        if told is not None:
            told(outcome)
    return tuple(outcomes[index] for index in range(len(sources)))


def _attempt(source: Source, reduce: Callable[[Source], RunResult | None]) -> Outcome:
    """Reduce one observation; its error keeps no frames, whose arrays would stay in memory."""
    try:
        return Outcome(source.name, reduce(source))
    except BrokenPipeError:
        raise
    except Tso3Error as error:
        return Outcome(source.name, error=_without_frames(error))
    except OSError as error:
        return Outcome(source.name, error=Tso3Error(error.strerror or str(error), error.filename))


def _without_frames(error: Tso3Error) -> Tso3Error:
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error


def find_observations(inputs: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    """
    Return the observations that inputs stand for; every association is read, no FITS file is opened.

    Parameters
    ----------
    inputs : path-like or sequence of path-like
        As `tso3.io.association.expand_inputs` takes them. Each association is an observation; files are one together.

    Returns
    -------
    sources : tuple of Source
        At least one. An association that cannot be read, or whose products would take the place of those of one
        before it, has its error.

    Raises
    ------
    InputError
        As of `tso3.io.association.expand_inputs`.

    Examples
    --------
    >>> from tso3.observations import find_observations
    >>> find_observations(["a_seg001_nrs1_calints.fits", "a_seg002_nrs1_calints.fits"])[0].name
    'a'
    """
    given = expand_inputs(inputs)
    if not given.associations:
        from tso3.io.belonging import common_name

        return (Source(common_name([path.stem for path in given.files]), given.files),)
    sources: list[Source] = []
    owners: dict[str, Path] = {}
    for path in given.associations:
        sources.append(_source(path, owners))
    return tuple(sources)


def _source(path: Path, owners: dict[str, Path]) -> Source:
    """Return the observation of an association; ``owners`` tells whose product each name is, and is added to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Tso3Warning)  # told when it is read to be reduced
            association = read_association(path)
    except InputError as error:
        return Source(path.name, (path,), _without_frames(error))
    products = _product_names(association)
    taken = next((product for product in products if product in owners), None)
    if taken is not None:
        error = InputError(
            f"would write {taken} in the place of that of {owners[taken]}; run it alone, with another output folder",
            path,
        )
        return Source(path.name, (path,), error)
    owners.update(dict.fromkeys(products, path))
    return Source(str(association.product_name), (path,))


def _product_names(association: Association) -> list[str]:
    """Return beginnings of names by which the products of two observations are told apart."""
    crfints = [
        f"{path.name.removesuffix('_calints.fits')}_{association.asn_id}_crfints.fits"
        for path in association.paths
        if path.name.endswith("_calints.fits")
    ]
    return [f"{association.product_name}_*", *crfints]


def check_options(
    output_dir: str | Path,
    *,
    preset: str = "default",
    parameters: Any = None,
    overrides: Mapping[str, str | Path] | None = None,
    integrations: str | Sequence[int] | None = None,
    max_memory: str | int = "1GiB",
    **others: Any,
) -> None:
    """
    Find the faults in what all observations share, before the first of them begins.

    Parameters
    ----------
    output_dir : path-like
        Folder of the products.
    preset : str, optional
        As of `tso3.run`; so are the others.
    parameters : Parameters or mapping of mappings, optional
        On top of the preset, or all.
    overrides : mapping of str to path-like, optional
        Reference files by kind, each of which must exist.
    integrations : str or pair of int, optional
        Those to reduce.
    max_memory : str or int, optional
        Private memory.
    **others
        Further options of it; of these ``times`` and ``bad_pixels`` must exist, ``scheduler`` and ``cluster`` be such
        that they can be asked for, and the scheduler have workers that can be used.

    Raises
    ------
    Tso3Error
        The first fault.
    """
    from tso3.engine import parse_size
    from tso3.io.reference_kinds import KINDS
    from tso3.io.selection import parse_integrations
    from tso3.steps.channel_spec import parse_channels

    parse_channels(resolve(preset, explicit=parameters)[1].channels)
    parse_size(max_memory)
    if integrations is not None:
        parse_integrations(integrations)
    for kind, path in (overrides or {}).items():
        if kind not in KINDS:
            raise ParameterError(
                f"there is no reference of kind '{kind}'; there are {', '.join(sorted(KINDS))}", "override"
            )
        if str(path).upper() != "N/A" and not Path(path).is_file():
            raise ReferenceFileError(f"the {kind} reference does not exist; check the path", path)
    if others.get("scheduler") is not None or others.get("cluster") is not None:
        from tso3.cluster_start import check_choice

        check_choice(others.get("scheduler"), others.get("cluster"))
    for name in ("times", "bad_pixels"):
        path = others.get(name)
        if path is not None and not Path(path).exists():
            raise InputError(f"no such file; check what is given as {name}", path)
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise OutputError("is a file, and the products need a folder; choose another folder", folder)
    if others.get("scheduler") is not None:  # last, as it may take its time
        from tso3.cluster_start import check_scheduler

        check_scheduler(str(others["scheduler"]))
