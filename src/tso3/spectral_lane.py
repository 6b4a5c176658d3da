"""An exposure on its way to spectra and white light."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tso3.core.block import Block
from tso3.core.box import BoxPlan
from tso3.core.noise import point_to_point
from tso3.errors import ParameterError
from tso3.io.reader import Reader
from tso3.lane import Lane, mean
from tso3.parameters import Extract1D
from tso3.recipe import Recipe, Rows, Segments
from tso3.result import ExposureSummary
from tso3.steps import (
    correlated_noise,
    extract_1d,
    extract_rectified,
    extraction_shape,
    pixel_replace,
    residual_background,
    soss_frames,
    white_light,
)
from tso3.steps.column_spread import ColumnSpread
from tso3.steps.correlated_noise import SharedBySpectrum
from tso3.steps.integration_rows import integration_keys, integration_rows
from tso3.steps.known_outliers import OutlierNotes
from tso3.steps.lasting_gaps import without_gaps
from tso3.steps.white_light_normalized import SteadyLight, baseline_integrations, steady_light
from tso3.stream import ExposureStream

if TYPE_CHECKING:
    from tso3.io.x1dints import SpectrumPlan

__all__ = ["SpectralLane", "SpectralRecipe", "shared_by_spectra"]

_RESULT_COLUMNS = 60
_REPLACED_BYTES = 6 * 4 + 8  # planes of a block again, and masks


@dataclass(frozen=True)
class SpectralRecipe(Recipe):
    """
    How blocks become spectra and sums of them.

    Attributes
    ----------
    plans : tuple of Extract1DPlan
        One for each spectrum in the exposure (order or channel); empty if nothing is extracted.
    replacement : PixelReplacePlan or None
        How bad pixels are replaced before.
    frames : SossFrames or None
        What is done to the images of SOSS.
    background : BackgroundPlan or None
        How the residual background is removed before all this.
    curves : tuple of WhiteLightCurve
        One for each of ``plans``.
    boxes : tuple of WhiteLightCurve
        Beside optimal extraction, those of the box, one for each of ``plans``; else empty.
    straight : tuple of RectifiedExtraction
        Where spectra are extracted from rectified frames: how, one for each of ``plans``; else empty.
    spreads : tuple of float
        With ``straight``: what covariance between columns makes of the variance of each light curve.
    """

    plans: tuple[extract_1d.Extract1DPlan, ...] = ()
    replacement: pixel_replace.PixelReplacePlan | None = None
    frames: soss_frames.SossFrames | None = None
    background: residual_background.BackgroundPlan | None = None
    curves: tuple[white_light.WhiteLightCurve, ...] = ()
    boxes: tuple[white_light.WhiteLightCurve, ...] = ()
    straight: tuple[extract_rectified.RectifiedExtraction, ...] = ()
    spreads: tuple[float, ...] = ()

    @property
    def keep_err(self) -> bool:
        """Whether `consume` reads ``err`` and ``dq``."""
        followed = any(each.rectify.needs_err and each.rectify.shifts is not None for each in self.straight)
        return self.replacement is not None or self.frames is not None or followed

    @property
    def used_rows(self) -> slice:
        """Rows of the apertures and the backgrounds."""
        if not self.plans:
            return slice(0, 0)
        if self.replacement is not None or self.background is not None:
            return slice(0, self.exposure.ny)
        if self.frames is not None:
            return self.frames.rows
        return slice(min(plan.rows.start for plan in self.plans), max(plan.rows.stop for plan in self.plans))

    @cached_property
    def _levels_plan(self) -> BoxPlan | None:
        return extract_1d.levels_plan(self.plans)

    @property
    def result_bytes(self) -> int:
        """Bytes of the spectra of one integration, of the sums that they are made from, and of replaced planes."""
        columns = _RESULT_COLUMNS * (2 if self.boxes else 1)
        spectra = max((plan.wavelength.size * 8 * columns for plan in self.plans), default=0)
        spectra += max((plan.turned_bytes for plan in self.plans), default=0)
        copies = (self.replacement is not None) + (self.frames is not None)
        copied = copies * self.exposure.ny * self.exposure.nx * _REPLACED_BYTES
        return spectra + copied

    def bytes_of_rectification(self, workers: int) -> int:
        """Bytes that rectification needs, that of extraction included."""
        most = max((each.chunk_bytes for each in self.straight), default=0)
        kept = 0 if self.rectify else sum(each.rectify.kept_bytes for each in self.straight)
        return super().bytes_of_rectification(workers) + workers * most + kept

    def gather(self, segments: Segments) -> Curves:
        """Return what takes up the light of blocks."""
        return Curves(self.curves, segments, self.boxes)

    def consume(self, block: Block, gathered: Curves, rows: Rows | None) -> None:
        """Remove residual background and replace bad pixels if asked to, extract one block, write, and add it up."""
        if self.plans:
            self.leave_out(block)
            residual_background.run(self.background, block)
            block = self.replaced(block)
        if self.frames is not None:
            block = soss_frames.run(self.frames, block)
        levels = None if self.straight else extract_1d.shared_levels(self._levels_plan, block)
        for k, (plan, curve) in enumerate(zip(self.plans, gathered.curves, strict=True)):
            if rows is None:
                raise RuntimeError("spectra without a product to write them to")
            if self.straight:
                for spectra in extract_rectified.run(self.straight[k], block):
                    curve.add(extract_rectified.spread(spectra, self.spreads[k]))
                    rows.write(self.exposure.name, spectra)
                continue
            extracted = extract_1d.extract(plan, block, levels)
            spectra = extracted.spectra
            curve.add(spectra)
            if extracted.box is not None:
                gathered.boxes[k].add(extracted.box)
            if isinstance(block, soss_frames.SossBlock):
                spectra = soss_frames.finished(plan, block, spectra)
            rows.write(self.exposure.name, spectra)

    def replaced(self, block: Block) -> Block:
        """Return a block with its bad pixels replaced, if they are to be."""
        return block if self.replacement is None else pixel_replace.run(self.replacement, block)


@dataclass(frozen=True)
class Curves:
    """
    Light curves that take up the light of some segments.

    Attributes
    ----------
    curves : tuple of WhiteLightCurve
        One for each spectrum.
    segments : Segments
        Which.
    boxes : tuple of WhiteLightCurve
        Those of the box, beside optimal extraction.
    """

    curves: tuple[white_light.WhiteLightCurve, ...]
    segments: Segments
    boxes: tuple[white_light.WhiteLightCurve, ...] = ()

    def result(self) -> tuple[white_light.CurvePart, ...]:
        """Return the numbers of the integrations of these segments: ``curves``, then ``boxes``."""
        return tuple(curve.part(self.segments.start, self.segments.stop) for curve in (*self.curves, *self.boxes))


def _replaced(recipe: SpectralRecipe, stream: ExposureStream) -> soss_frames.Read:
    """Return what reads rows of whole segments whose bad pixels were replaced; the last segment is kept."""

    @lru_cache(maxsize=1)
    def whole(start: int, stop: int) -> Block:
        return recipe.replaced(stream.single(start, stop))

    def read(start: int, stop: int, rows: slice) -> soss_frames.Flagged:
        block = whole(start, stop)
        assert block.err is not None
        return block.data[:, rows], block.err[:, rows]

    return read


class SpectralLane(Lane):
    """
    An exposure that ends in spectra and white light.

    Attributes
    ----------
    curves : tuple of WhiteLightCurve
        One for each spectrum; filled by `absorb`.
    widths : tuple of float
        Widths of the apertures that a scan chose [pixel], one for each spectrum; empty if none did.
    shared : CorrelatedNoise or None
        Noise that pixels share, kept where channels are asked for; None where it was not measured.
    """

    recipe: SpectralRecipe
    widths: tuple[float, ...] = ()
    shared: correlated_noise.CorrelatedNoise | None = None

    def prepare(self, reader: Reader) -> None:
        """Plan the extraction; where the archive looks at the first integration of a segment, do so."""
        self.recipe = SpectralRecipe(self.exposure, self.outliers, self.bad_pixels, self.fixed_bytes)
        if self.setting.parameters.extract_1d.skip:
            return
        self._check_completion()
        with ThreadPoolExecutor(1, thread_name_prefix="tso3-aside") as aside:
            shared = aside.submit(self._measure_correlated, reader)
            self._plan_extraction(reader)
            self._tell_correlated(shared)

    def _plan_extraction(self, reader: Reader) -> None:
        """Make the recipe of the spectra."""
        parameters = self.setting.parameters
        if parameters.extract_1d.extract_width == "auto":
            plans = self._quietest(reader)
        else:
            plans = self.extraction(parameters.extract_1d, self.knowledge(reader))
        self.recipe = recipe = replace(self.recipe, plans=plans, replacement=self.replacement(plans))
        left_out = self.unsteady(parameters.extract_1d.missing == "complete")
        self.recipe = recipe = replace(recipe, unsteady=left_out)
        self.recipe = recipe = self.with_frames(recipe, reader)
        self.recipe = recipe = replace(recipe, **self._background(reader, plans))
        if any(plan.needs_first for plan in plans):
            stream = recipe.stream(reader)
            starts = enumerate(start for start, _ in self.exposure.segment_bounds)
            first = {k: recipe.replaced(stream.single(start, start + 1)) for k, start in starts}
            plans = tuple(extract_1d.with_first_integrations(plan, first) for plan in plans)
        boxes = tuple(self._curve(plan) for plan in plans if plan.optimal is not None)
        curves = tuple(self._curve(plan) for plan in plans)
        kept = recipe.fixed_bytes + sum(plan.kept_bytes for plan in plans)
        self.recipe = replace(recipe, plans=plans, curves=curves, boxes=boxes, fixed_bytes=kept)

    @property
    def _shares_by_channel(self) -> bool:
        return self.setting.channels is not None or self.setting.parameters.extract_1d.rectified

    def _measure_correlated(self, reader: Reader) -> correlated_noise.CorrelatedNoise | None:
        """Measure how much noise the pixels of a line share, where anything depends on it."""
        parameters = self.setting.parameters
        if parameters.white_light.skip and not self._shares_by_channel:
            return None
        n_pairs, workers = parameters.survey.n_pairs, self.setting.limits.workers
        return correlated_noise.measure(self.exposure, reader, self.outliers, n_pairs, self.bad_pixels, workers=workers)

    def _tell_correlated(self, measured: Future[correlated_noise.CorrelatedNoise | None]) -> None:
        """Tell the light curves how much noise their pixels share."""
        recipe, kind = self.recipe, self.setting.parameters.residual_background.background
        if recipe.frames is not None or (noise := measured.result()) is None:
            return
        noise = replace(noise, removed=recipe.background, removed_kind=kind)
        self.shared = noise if self._shares_by_channel else None
        shape = self.exposure.ny, self.exposure.nx
        for curves, optimally in ((recipe.curves, True), (recipe.boxes, False)):
            for plan, curve in zip(recipe.plans, curves, strict=False):  # there are no boxes but beside optimal sums
                for light in (curve, curve.normalized):
                    if light is not None:
                        weights = correlated_noise.spectral_weights(plan, light.factors, shape, optimally)
                        light.correlated = noise.variance_of(weights)

    def _quietest(self, reader: Reader) -> tuple[extract_1d.Extract1DPlan, ...]:
        """Return the plans with the width that a scan of the exposure chooses for each spectrum."""
        from tso3.scan_lane import settle_widths

        parameters = self.setting.parameters.extract_1d
        self.widths = settle_widths(self, reader)
        known, plans = self.knowledge(reader), []
        for k, width in enumerate(self.widths):
            fixed = parameters.model_copy(update={"extract_width": width})
            plans.append(self.extraction(fixed, known)[k])
        return tuple(plans)

    def _check_completion(self) -> None:
        """Raise an error if missing light is to be completed and nothing is known to complete it from."""
        parameters, light = self.setting.parameters, self.setting.parameters.white_light
        completing = parameters.extract_1d.missing == "complete" or (light.missing == "complete" and not light.skip)
        if self.model is None and completing:
            raise ParameterError(
                "0 leaves nothing to complete missing light from; set extract_1d.missing = drop and"
                " white_light.missing = drop as well, or a sample of at least 1",
                "survey.n_sample",
            )

    def knowledge(self, reader: Reader) -> extraction_shape.Knowledge:
        """Return what is known about the exposure besides its model; optimal extraction looks at the variances."""
        judge = None if self.outliers is None else self.outliers.judge
        variances = None
        if self.setting.parameters.extract_1d.extraction_type == "optimal" and self.model is not None:
            variances = extraction_shape.read_variances(self.exposure, reader, self.model)
        workers = self.setting.limits.workers
        return extraction_shape.Knowledge(self.model, judge, variances, self._across, workers=workers)

    def _across(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the motion of the star across dispersion and its error, if it is known."""
        name = "shift_x" if self.exposure.dispersion_axis == 2 else "shift_y"
        motion = self.motion
        if motion is None or name not in motion.values:
            return None
        return motion.values[name], motion.errors[name]

    def extraction(
        self, parameters: Extract1D, known: extraction_shape.Knowledge
    ) -> tuple[extract_1d.Extract1DPlan, ...]:
        """Return the plans of extraction, one for each spectrum."""
        photom = self.setting.parameters.photom
        plans = extract_1d.prepare(self.exposure, self.references, parameters, self.model, photom, known)
        lacking = self.unsteady(parameters.missing == "complete")
        return tuple(without_gaps(plan, lacking) for plan in plans)

    def replacement(self, plans: Sequence[extract_1d.Extract1DPlan]) -> pixel_replace.PixelReplacePlan | None:
        """Return how bad pixels are replaced before extraction."""
        return pixel_replace.prepare(self.exposure, self.setting.parameters.pixel_replace, self.model, plans)

    def _background(self, reader: Reader, plans: tuple[extract_1d.Extract1DPlan, ...]) -> dict[str, Any]:
        """Return the parts of the recipe that remove the residual background."""
        parameters = self.setting.parameters.residual_background
        if parameters.background == "none" or not plans:
            return {}
        if self.recipe.frames is not None:
            raise ParameterError(
                "cannot be removed from images that soss_infill, soss_background or soss_variance change as the archive"
                " does; set these to their defaults, or background = none",
                "residual_background.background",
            )
        weights = np.maximum.reduce([_aperture(plan, self.exposure.ny, self.exposure.nx) for plan in plans])
        later = all(bool(plan.box.background.any()) for plan in plans)
        plan = residual_background.prepare(self.exposure, reader, parameters, self.outliers, weights, later)
        fixed = self.recipe.fixed_bytes + residual_background.PLAN_BYTES * self.exposure.ny * self.exposure.nx
        return {"background": plan, "fixed_bytes": fixed}

    @property
    def plans(self) -> tuple[extract_1d.Extract1DPlan, ...]:
        """What is extracted: one plan for each spectrum."""
        return self.recipe.plans

    @property
    def curves(self) -> tuple[white_light.WhiteLightCurve, ...]:
        """The light curves, one for each of `plans`."""
        return self.recipe.curves

    def absorb(self, segments: Segments, gathered: tuple[white_light.CurvePart, ...]) -> None:
        """Take the light of some segments."""
        for curve, part in zip((*self.curves, *self.recipe.boxes), gathered, strict=True):
            curve.put(part)

    def with_frames(self, recipe: SpectralRecipe, reader: Reader) -> SpectralRecipe:
        """Look at whole segments of SOSS where the parameters ask for what the archive does to its images."""
        if self.exposure.mode.exp_type != "NIS_SOSS" or not self.plans:
            return recipe
        parameters, workers = self.setting.parameters.extract_1d, self.setting.limits.workers
        stream = ExposureStream(
            self.exposure, reader, self.outliers, used_rows=recipe.used_rows, keep_err=True, bad_pixels=self.bad_pixels
        )
        if recipe.replacement is not None:
            read = _replaced(recipe, stream)  # whole segments, so one thread
            return replace(recipe, frames=soss_frames.prepare(self.exposure, parameters, read, recipe.used_rows))
        notes = self._notes()
        read = partial(stream.flagged, notes=notes)
        frames = soss_frames.prepare(
            self.exposure, parameters, read, recipe.used_rows, workers, every_row=notes is not None
        )
        known = None if notes is None else notes.known()
        kept = recipe.fixed_bytes + sum(part.nbytes for part in (frames, known) if part is not None)
        return replace(recipe, frames=frames, known=known, fixed_bytes=kept)

    def _notes(self) -> OutlierNotes | None:
        """Return what takes the outliers that are found while whole segments of SOSS are read, if that serves."""
        if self.setting.parameters.extract_1d.soss_infill != "median" or self.outliers is None:
            return None
        if self.outliers.parameters.save_intermediate_results:  # medians are written when they are made
            return None
        return OutlierNotes((self.exposure.n_int, self.exposure.ny, self.exposure.nx))

    def curve_of(self, plan: extract_1d.Extract1DPlan, steady: SteadyLight | None) -> white_light.WhiteLightCurve:
        """Return the empty light curve of a spectrum, within the wavelength range of its own order."""
        light = self.setting.parameters.white_light
        expected = plan.expected if light.missing == "complete" else None
        band = None
        if not light.skip:
            path = self.setting.references.path("wavelengthrange")
            order = plan.header.spectral_order
            band = white_light.band(light, self.setting.wavelength_ranges, order, self.exposure, path)
        baseline = None if light.skip else baseline_integrations(light.baseline, self.exposure)
        return white_light.WhiteLightCurve(
            self.exposure, plan.header, plan.wavelength, band, expected, steady, baseline
        )

    def _curve(self, plan: extract_1d.Extract1DPlan) -> white_light.WhiteLightCurve:
        """Return the empty light curve of a spectrum that is extracted from the detector."""
        light = self.setting.parameters.white_light
        return self.curve_of(plan, steady_light(plan, self.model) if light.normalized and not light.skip else None)

    @property
    def chosen(self) -> str:
        """The widths that a scan chose, in words; empty if none did."""
        return f"extract_width {', '.join(f'{width:g}' for width in self.widths)}" if self.widths else ""

    @property
    def spectrum_plans(self) -> list[SpectrumPlan]:
        """What the product of spectra will hold of this exposure."""
        from tso3.io.x1dplan import SpectrumPlan

        return [SpectrumPlan(self.exposure, plan.header, plan.wavelength) for plan in self.plans]

    def apertures(self) -> dict[str, Any]:
        """Return the weights of every spectrum's aperture."""
        weights: dict[str, NDArray[np.float32]] = {}
        plans = tuple(each.source for each in self.recipe.straight) or self.plans
        several_orders = len({plan.header.spectral_order for plan in plans}) > 1
        for plan in plans:
            whole = _aperture(plan, self.exposure.ny, self.exposure.nx)
            header = plan.header
            name = f"order {header.spectral_order}" if several_orders else header.slit_name or "aperture"
            weights[name if len(plans) > 1 else "aperture"] = whole
        return {"apertures": weights}

    def missing(self) -> dict[str, NDArray[np.float64]]:
        """Return the share of the light on bad pixels, by spectral order or channel if there are several."""
        orders = len({curve.header.spectral_order for curve in self.curves}) > 1
        slits = len({curve.header.slit_name for curve in self.curves}) > 1
        shares = {}
        for curve in self.curves:
            end = f"_order_{curve.header.spectral_order}" if orders else ""
            end += f"_channel_{curve.header.slit_name}" if slits else ""
            shares[end] = curve.missing_fraction
        return shares

    def light_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the white light of the first spectrum that its range does not miss."""
        if not self.curves:
            return super().light_curve()
        curve = self.curves[self._shown]
        return curve.flux, curve.limit_variance, mean(curve.missing_fraction)

    @property
    def _shown(self) -> int:
        """Which light curve the summary is about."""
        return next((k for k, curve in enumerate(self.curves) if curve.span is not None), 0)

    def summary(self) -> ExposureSummary:
        """Return this exposure's share of the result; beside optimal extraction with the scatter of the box."""
        summary = super().summary()
        if not self.recipe.boxes:
            return summary
        return replace(summary, box_scatter_ppm=1e6 * point_to_point(self.recipe.boxes[self._shown].flux))


def shared_by_spectra(
    lanes: Sequence[SpectralLane],
) -> dict[tuple[str, str, int], list[SharedBySpectrum | ColumnSpread | None]]:
    """
    Return the noise that the pixels of spectra share; of rectified spectra what their columns do.

    Parameters
    ----------
    lanes : sequence of SpectralLane
        Of all exposures.

    Returns
    -------
    shared : dict of (detector, slit, order) to list of (SharedBySpectrum, ColumnSpread or None)
        Of all exposures in the order of their first time; None where it was not measured.
    """
    rows = integration_rows([lane.exposure for lane in lanes])
    ordered = sorted(lanes, key=lambda lane: min(rows[key] for key in integration_keys(lane.exposure)))
    found: dict[tuple[str, str, int], list[SharedBySpectrum | ColumnSpread | None]] = {}
    for lane in ordered:
        for k, plan in enumerate(lane.plans):
            key = (lane.exposure.detector, str(plan.header.slit_name or ""), plan.header.spectral_order)
            noise: SharedBySpectrum | ColumnSpread | None = None
            if lane.recipe.straight:
                noise = ColumnSpread(lane.recipe.straight[k], lane.model)
            elif lane.shared is not None:
                noise = SharedBySpectrum(lane.shared, plan)
            found.setdefault(key, []).append(noise)
    return found


def _aperture(plan: extract_1d.Extract1DPlan, ny: int, nx: int) -> NDArray[np.float32]:
    """Return the weights of an aperture in the frame of the detector."""
    whole = np.zeros((ny, nx), np.float32)
    turned = whole.T if plan.turned else whole
    turned[plan.box.rows, plan.box.start : plan.box.start + plan.box.npixels.size] = plan.box.aperture
    return whole
