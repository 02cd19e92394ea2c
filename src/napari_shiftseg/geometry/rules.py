"""The rules of exact tiling and of training: one table, and how a run is judged by it.

Everything that is said of a run is read off one `Judgement`: `rulings` are its rows, `violations` what is broken in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

from napari_shiftseg.arguments import told
from napari_shiftseg.geometry.coverage import Coverage, Trained, Zeros, coverage, inner_part, least_window, zeros_as_trained
from napari_shiftseg.geometry.lattice import Lattice
from napari_shiftseg.geometry.plan import TilePlan
from napari_shiftseg.geometry.spec import UNetSpec, as_lattice

Verdict = Literal["pass", "FAIL", "not known"]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes
    ----------
    rule : str
        "write-multiple", "lattice", "crop", "context", "padding", "training-window".
    axis : int or None
        The axis that breaks it; None for the network as a whole.
    found : int or str
        The value that breaks it.
    nearest : tuple of int
        Legal values next to it, where there are some.
    message : str
        What was found, what is wanted, what to do.
    source : str
        Where the rule comes from.
    """

    rule: str
    axis: int | None
    found: int | str
    nearest: tuple[int, ...]
    message: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """One rule: what was found, what is wanted, and what to do where they differ."""

    rule: str
    verdict: Verdict
    found: str
    wanted: str
    fix: str
    source: str
    broken: tuple[Violation, ...] = ()  # where it is broken


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """All that the rules say of a run.

    Attributes
    ----------
    rulings : tuple of Ruling
        Every rule, kept or broken.
    coverage : Coverage or None
        How many of the output functions and pairs that run were trained; None where nothing says how the network was. Tiles off
        the lattice add the pairs that meet at their seams alone.
    tile_exact : bool
        Whether the stitched output equals that of one pass.
    """

    rulings: tuple[Ruling, ...]
    coverage: Coverage | None
    tile_exact: bool

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What is broken, rule by rule."""
        return tuple(broken for ruling in self.rulings for broken in ruling.broken)


def judge(plan_or_spec: TilePlan | Lattice | UNetSpec, trained: Trained | None = None) -> Judgement:
    """All rules, judged for a plan, or those of training for a spec alone.

    Parameters
    ----------
    plan_or_spec : TilePlan, Lattice or UNetSpec
        A plan is judged with its network; a spec alone has no tiles to judge, and is exact as one pass is.
    trained : object with `window` and `neighbours`, optional
        The training; without it the rules of training are not judged, except that zero padding needs it.

    Returns
    -------
    Judgement

    >>> from napari_shiftseg.geometry import plan_tiles
    >>> found = judge(plan_tiles(UNetSpec(levels=4), (100, 100), 16))
    >>> found.tile_exact, found.violations, found.coverage
    (True, (), None)
    """
    plan = plan_or_spec if isinstance(plan_or_spec, TilePlan) else None
    lattice = plan_or_spec.lattice if isinstance(plan_or_spec, TilePlan) else as_lattice(plan_or_spec)
    case = _Case(lattice=lattice, plan=plan, trained=trained)
    judged = {rule: rule.ruling(case) for rule in _RULES if plan is not None or not rule.of_tiles}
    # a training on tiles that stand alone excuses their lack of context, and makes them no one pass
    exact = not case.lacking and not any(ruling.broken for rule, ruling in judged.items() if rule.of_tiles)
    return Judgement(rulings=tuple(judged.values()), coverage=case.counted, tile_exact=exact)


@told
def violations(plan_or_spec: TilePlan | Lattice | UNetSpec, trained: Trained | None = None) -> tuple[Violation, ...]:
    """Rules that a tile plan, a network or its training breaks; empty if none.

    Parameters
    ----------
    plan_or_spec, trained
        As in `judge`. A training with none broken trained every output function that will run, and every pair that will be
        neighbours (see `coverage`).

    Returns
    -------
    tuple of Violation

    >>> from napari_shiftseg.geometry import plan_tiles
    >>> plan = plan_tiles(UNetSpec(levels=4), (100, 100), 20, allow_noncompliant=True)
    >>> [v.rule for v in violations(plan)]
    ['write-multiple', 'write-multiple']
    """
    return judge(plan_or_spec, trained).violations


# -- what is judged ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A run and its training, with what several rules ask of them; without a plan there are no tiles and no seams."""

    lattice: Lattice
    plan: TilePlan | None
    trained: Trained | None

    @property
    def network(self) -> Lattice:
        """What was trained: where the image is scaled for it, another lattice than that of the tiles."""
        return self.lattice.network

    @property
    def axes(self) -> tuple[tuple[tuple[slice, slice, slice], ...], ...]:
        return () if self.plan is None else self.plan.axes

    @cached_property
    def seams(self) -> tuple[int, ...]:
        """Axes with more than one tile: a single tile has no seam."""
        return tuple(axis for axis, windows in enumerate(self.axes) if len(windows) > 1)

    @property
    def write(self) -> tuple[int, ...]:
        return () if self.plan is None else self.plan.write

    @cached_property
    def regular(self) -> tuple[int, ...]:
        """Axes with seams whose tiles are multiples of the period; of others nothing more can be said."""
        return tuple(axis for axis in self.seams if self.write[axis] % self.lattice.period[axis] == 0)

    @cached_property
    def phases(self) -> dict[int, int]:
        """Phases of the pooling grid at which tiles start, of each axis with seams."""
        return {axis: len({read.start % self.lattice.period[axis] for read, _, _ in self.axes[axis]}) for axis in self.seams}

    @cached_property
    def crops(self) -> dict[int, set[int]]:
        """Crops that tiles lose, of each axis with seams."""
        return {axis: {r.start + keep.start - write.start for r, keep, write in self.axes[axis]} for axis in self.seams}

    @cached_property
    def lacking(self) -> dict[int, int]:
        """Least context of a padded network's tiles, of each axis where it is less than a pixel sees."""
        if self.plan is None or self.lattice.padding == "valid":
            return {}
        found = {}
        for axis in self.regular:
            last = self.plan.pad[axis][0] + self.plan.image_shape[axis] + self.plan.pad[axis][1]
            around = [
                edge
                for read, keep, _ in self.axes[axis]
                for edge, inside in ((keep.start, read.start > 0), (read.stop - read.start - keep.stop, read.stop < last))
                if inside
            ]
            least = min(around, default=self.lattice.reach[axis])
            if least < self.lattice.reach[axis]:
                found[axis] = least
        return found

    @cached_property
    def zeros(self) -> Zeros:
        """Where a run may meet zeros, so that it is what was trained."""
        return zeros_as_trained(self.network, self.trained)

    @cached_property
    def fitting(self) -> Trained | None:
        """The training, if its window has as many axes as the network."""
        return None if self.trained is None or len(self.trained.window) != self.lattice.ndim else self.trained

    @cached_property
    def alone(self) -> bool:
        """Whether padded tiles are those of the training: side by side, each read whole and nothing around it."""
        if self.plan is None or self.fitting is None or self.zeros != "tile":
            return False
        for windows, edge in zip(self.axes, self.fitting.window, strict=True):
            start = windows[0][0].start
            for number, (read, keep, _) in enumerate(windows):
                whole = slice(start + number * edge, start + (number + 1) * edge)
                if read != whole or keep.start != 0 or (keep.stop != edge and number < len(windows) - 1):
                    return False
        return True

    @cached_property
    def without_zeros(self) -> bool:
        """Whether every pixel of a plan has as much image or reflection around it as it sees; on a scaled image all have."""
        return self.lattice.scaling is not None or all(
            min(keep.start, read.stop - read.start - keep.stop) >= self.lattice.reach[axis]
            for axis, windows in enumerate(self.axes)
            for read, keep, _ in windows
        )

    @cached_property
    def misrun(self) -> Zeros | None:
        """Where a padded network should meet zeros, and does not as it was trained; None where it does, or has none."""
        if self.network.padding == "valid":
            return None
        if self.zeros == "image":
            return "image"
        # tiles that lack context are wrong however the network was trained
        if self.plan is None or self.alone or self.lacking or (self.zeros == "nowhere" and self.without_zeros):
            return None
        return self.zeros

    @cached_property
    def inside(self) -> Coverage | None:
        """The count without what meets at seams alone; None without a training."""
        if self.fitting is None:
            return None
        if self.plan is None or self.network.padding == "valid":
            return coverage(self.network, self.fitting)
        return coverage(self.network, self.fitting, "tile" if self.alone else "nowhere" if self.without_zeros else "image")

    @cached_property
    def counted(self) -> Coverage | None:
        """The count of all that runs."""
        if self.inside is None or self.plan is None or self.alone:
            return self.inside
        axes = []
        for have, tiles, period in zip(self.inside.axes, self.axes, self.lattice.period, strict=True):
            met = {((before.stop - 1) % period, after.start % period) for (_, before, _), (_, after, _) in pairwise(tiles)}
            # that meet at seams and are no neighbours within a tile
            strange = sum((last + 1) % period != first for last, first in met)
            axes.append(replace(have, of_pairs=have.of_pairs + strange))
        return Coverage(axes=tuple(axes))


# -- the table --------------------------------------------------------------------------------------------------------

_Broken = tuple[int | None, int | str, tuple[int, ...], str]
"""Axis that breaks a rule, the value that does, legal values next to it, and what to do."""


class _Finding(NamedTuple):
    """What was found and what is wanted, in words; where that breaks a rule, and the verdict if it does nowhere."""

    found: str
    wanted: str
    broken: Sequence[_Broken] = ()
    verdict: Verdict = "pass"
    fix: str = ""


def _multiples(case: _Case) -> _Finding:
    broken: list[_Broken] = []
    for axis in case.seams:
        write, period = case.write[axis], case.lattice.period[axis]
        if write % period:
            lower = write // period * period
            fix = (
                f"tiles of {write} px on axis {axis} are not a multiple of the period {period} px: at each seam two output "
                f"functions meet that were never neighbours; use {lower + period} px" + (f" or {lower} px." if lower else ".")
            )
            broken.append((axis, write, tuple(n for n in (lower, lower + period) if n), fix))
    found = f"tiles of {_times(case.write)} px{'' if case.seams else '; one tile has no seam'}"
    return _Finding(found, f"multiples of the period {_times(case.lattice.period)} px", broken)


def _one_phase(case: _Case) -> _Finding:
    broken: list[_Broken] = []
    for axis in case.regular:
        count, period = case.phases[axis], case.lattice.period[axis]
        if count > 1:
            fix = (
                f"tiles on axis {axis} start at {count} different phases of the pooling grid; start all at multiples of "
                f"{period} px."
            )
            broken.append((axis, count, (period,), fix))
    most = max(case.phases.values(), default=1)
    found = f"{_several(most, 'phase')} of the pooling grid"
    # tiles that are no multiples of the period cannot start at one phase
    return _Finding(found, "1", broken, *(("FAIL", "as for write-multiple.") if most > 1 else ()))


def _one_crop(case: _Case) -> _Finding:
    fix = "tiles on axis {} are cropped by different amounts; keep the crop constant."
    broken: list[_Broken] = [
        (axis, len(crops), (min(crops),), fix.format(axis))
        for axis, crops in case.crops.items()
        if len(crops) > 1 and axis in case.regular
    ]
    found = _several(max(map(len, case.crops.values()), default=1), "crop")
    return _Finding(found, "1, the same for all tiles", broken)


def _enough_context(case: _Case) -> _Finding:
    """A padded network sees false zeros at tile borders unless each tile reads all that its pixels see."""
    if case.lattice.padding == "valid":
        return _Finding("valid convolutions", "real context for each pixel")
    reach, wanted = case.lattice.reach, f"{_times(case.lattice.reach)} px around a tile"
    if case.alone:
        found = f"tiles of {_times(case.write)} px that stand alone, as in training; not equal to one pass"
        return _Finding(found if case.seams else "one tile", f"{wanted}, or as trained")
    fix = "tiles on axis {0} have {1} px of context, but a pixel sees {2} px; read {2} px or more."
    broken: list[_Broken] = [
        (axis, least, (reach[axis],), fix.format(axis, least, reach[axis])) for axis, least in case.lacking.items()
    ]
    found = f"{min(case.lacking.values())} px around a tile" if broken else "tiles as planned"
    return _Finding(found, wanted, broken)


def _zeros_as_trained(case: _Case) -> _Finding:
    """A network that pads with zeros is run as it was trained, in one of two ways that train all that runs."""
    tiles, trained = case.network.ndim + 1, case.trained
    wanted = (
        f"valid convolutions, or batches of {tiles} neighbouring tiles and a run on such tiles, or a loss on pixels alone that "
        "see no zeros and a run without zeros"
    )
    if case.network.padding == "valid":
        return _Finding("valid convolutions", wanted)
    window = () if trained is None or case.zeros != "tile" else tuple(trained.window)
    how = ", and nothing says how it was trained" if trained is None else " and was trained on single tiles"
    ran, fix = {
        None: ("", ""),
        "image": ("", f"{how}; use valid convolutions, or train on batches of {tiles} directly neighbouring tiles."),
        "tile": (
            ", run on other tiles",
            f" and was trained on tiles of {_times(window)} px that stood alone; on other tiles other output functions run, "
            f"which were never trained; take tiles of {_times(window)} px without context (plan_tiles with trained).",
        ),
        "nowhere": (
            ", run with zeros",
            " and was trained on pixels alone that see none; tiles that meet zeros run output functions that were never "
            "trained; reflect the image at its borders (plan_tiles with trained).",
        ),
    }[case.misrun]
    broken: list[_Broken] = [(None, "zero", window, f"the network pads with zeros{fix}")] if fix else []
    return _Finding(f"zero convolutions, {_batches(trained)}{ran}", wanted, broken)


def _window_holds_all(case: _Case) -> _Finding:
    """The training window holds all output functions, and all pairs of neighbours."""
    lattice, trained, count = case.network, case.trained, case.inside
    if trained is None:
        wanted = f"a window of more than {_times(lattice.period)} px"
        return _Finding("the model has no record of its training", wanted, verdict="not known")
    window = f"{_times(trained.window)} px"
    if count is None:
        fix = f"the training window {trained.window} does not have {lattice.ndim} axes; give one edge per axis."
        return _Finding(window, f"{lattice.ndim} edges", [(None, str(trained.window), (), fix)])
    broken = list((_valid_windows if lattice.padding == "valid" else _padded_windows)(lattice, trained, count))
    found = f"{window}, {_batches(trained)}: {count.describe()}"
    return _Finding(found, "all of both", broken, *(() if count.complete else ("FAIL", "as for padding.")))


def _valid_windows(lattice: Lattice, trained: Trained, counts: Coverage) -> Iterator[_Broken]:
    inner = inner_part(trained)
    for axis, (count, window) in enumerate(zip(counts.axes, inner or trained.window, strict=True)):
        if not count.complete:
            legal = least_window(lattice, axis, neighbours=trained.neighbours and inner is None)
            fix = (
                f"the training output window {window} px on axis {axis} does not exceed the period {lattice.period[axis]} px: "
                f"it holds {count.functions} of {count.of_functions} output functions and {count.pairs} of {count.of_pairs} "
                f"pairs of neighbours along it, so some were never compared; train with {legal} px or more."
            )
            yield axis, window, (legal,), fix


def _padded_windows(lattice: Lattice, trained: Trained, _: Coverage) -> Iterator[_Broken]:
    """A padded tile has to pass the network; pixels that see no zeros have to be more than a period."""
    inner = inner_part(trained)
    counts, part, inside = coverage(lattice, trained, "nowhere").axes, inner or trained.window, inner is not None
    for axis, (window, period) in enumerate(zip(trained.window, lattice.period, strict=True)):
        if window > 0 and window % period == 0 and (counts[axis].complete or not inside):
            continue
        around = 2 * lattice.halo[axis] * inside
        legal = max(around + (1 + inside) * period, -(-window // period) * period)
        fix = (
            f"the training window {window} px on axis {axis}{f' with a loss on its inner {part[axis]} px' * inside} is none "
            f"that a padded network with a period of {period} px and a reach of {lattice.reach[axis]} px can be trained on; "
            f"take {legal} px{f' with a loss on the inner {legal - around} px' * inside}."
        )
        yield axis, window, (legal,), fix


def _batches(trained: Trained | None) -> str:
    if trained is None:
        return "not known how trained"
    if inner := inner_part(trained):
        return f"a loss on the inner {_times(inner)} px"
    return "batches of neighbouring tiles" if trained.neighbours else "single tiles"


def _times(edges: Sequence[int]) -> str:
    return " x ".join(map(str, edges))


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


class _Rule(NamedTuple):
    """A row of the table; `judge` says what was found, what is wanted, and what to do where it is broken."""

    name: str
    of_tiles: bool  # else of training
    source: str
    judge: Callable[[_Case], _Finding]

    def ruling(self, case: _Case) -> Ruling:
        """The rule for one run."""
        found, wanted, breaks, verdict, fix = self.judge(case)
        source = f"Rumberger et al. 2021, {self.source}"
        broken = tuple(
            Violation(rule=self.name, axis=axis, found=value, nearest=nearest, message=message, source=source)
            for axis, value, nearest, message in breaks
        )
        if broken:
            # axes that break it in the same way need no second sentence
            verdict, fix = "FAIL", " ".join({(v.found, v.nearest): v.message for v in reversed(broken)}.values())
        return Ruling(rule=self.name, verdict=verdict, found=found, wanted=wanted, fix=fix, source=source, broken=broken)


_RULES = (
    _Rule("write-multiple", True, "section 3.2 and Fig. 3b", _multiples),
    _Rule("lattice", True, "section 3.2", _one_phase),
    _Rule("crop", True, "section 3.2", _one_crop),
    _Rule("context", True, "section 2 (zero padding breaks equivariance)", _enough_context),
    _Rule("padding", False, "section 3.2", _zeros_as_trained),
    _Rule("training-window", False, "section 3.2 and Fig. 3a", _window_holds_all),
)
