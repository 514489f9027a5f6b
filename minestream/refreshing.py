"""From the reserve of an earlier run to lists for this one: what has changed is met with everything else, once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.answers import groups_of
from minestream.config import MineConfig
from minestream.errors import CapacityError
from minestream.kernels.choose import IGNORE, NEAREST, NEGATIVE, POSITIVE, Rule
from minestream.negatives import negative_rule
from minestream.positives import one_pair_each
from minestream.remembered import Lists, Remembered, no_lists
from minestream.reserve import Contents, Reserve, contents_of, keys_of
from minestream.rules import AT_POSITIVE, BANDS
from minestream.search import search_once
from minestream.setting import Setting

DEFAULT_RESERVE = 16
DEEP_TIMES = 8  # as long as the others: the lists of anchors with many negatives nearer than the positive
ENTRY_BYTES = 40  # of a list's entry while lists are joined
DEEP_BYTES_TIMES = 2  # what the longer lists may come to, all in all
LISTED_AT_ONCE = 2**24  # entries of the lists that are searched for together
LEAST_SHARE = 0.5  # of its length: a shorter list that has lost something is searched for again
MOST_CHANGED = 0.5  # of the known rows: with more a full run is cheaper

Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Changes:
    """What has happened to the rows that take part since the reserve was written.

    Attributes
    ----------
    known, unchanged, changed, removed, added : int
        Rows of then; of these how many are the same, hold something else, are gone; rows that are new.
    full : str
        Why everything was searched for; empty where it was not.
    """

    known: int
    unchanged: int
    changed: int
    removed: int
    added: int
    full: str = ""

    def to_dict(self) -> dict[str, Any]:
        """By name, as JSON holds it."""
        return asdict(self)


def list_lengths(config: MineConfig, reserve: int) -> dict[int, int]:
    """How many candidates of each kind are remembered of an anchor, by POSITIVE and NEGATIVE.

    `reserve` negatives more than are asked for: many are nearer than the positive. Of positives half of that.
    """
    rule = negative_rule(config)
    return {POSITIVE: config.positives_per_anchor + (reserve + 1) // 2, NEGATIVE: rule.take + rule.skip + reserve}


def matched(old: Reserve | None, key: pa.Array, content: Contents) -> tuple[NDArray[np.int64], Changes]:
    """For each known row where it stands now, -1 if it is gone or has changed; and the counts."""
    if old is None or old.key.type != key.type:
        known = 0 if old is None else len(old.key)
        return np.full(known, -1), Changes(known, 0, 0, known, len(key))
    at = np.asarray(pc.index_in(old.key, value_set=key).fill_null(-1), np.int64)
    there = at >= 0
    same = there.copy()
    same[there] = (content[at[there]] == old.content[there]).all(axis=1)
    unchanged, still = int(same.sum()), int(there.sum())
    counts = Changes(at.size, unchanged, still - unchanged, at.size - still, len(key) - still)
    return np.where(same, at, -1), counts


def refreshed(
    setting: Setting, config: MineConfig, anchors: Slots, old: Reserve | None, about: dict[str, Any], bytes_free: int
) -> tuple[Reserve, Changes]:
    """The lists of all anchors of a run, from those of an earlier one.

    Parameters
    ----------
    setting : Setting
        Of this run; the work is counted into its stats.
    old : Reserve or None
        Of the same configuration.
    about : dict
        Of the new reserve.
    bytes_free : int

    Raises
    ------
    CapacityError
        When the lists do not fit.

    Notes
    -----
    Cost: the search of C changed rows among n, twice: as anchors and as candidates of the others.
    """
    lengths = list_lengths(config, about["reserve"])
    _refuse_too_much(sum(lengths.values()), anchors.size, bytes_free)
    key, content = keys_of(setting.loaded), contents_of(setting.loaded)
    to, changes = matched(old, key, content)
    if old is not None:
        changes = replace(changes, full=_why_full(changes))
    if changes.full:
        to[:] = -1
    size, kept = len(key), to >= 0
    fresh, relisted = np.ones(size, bool), np.zeros(size, bool)
    fresh[to[kept]] = False
    kinds: dict[int, Lists] = {}
    for kind, length in lengths.items():
        before = old.remembered.kinds[kind] if old is not None else no_lists(0)
        moved = before.moved(to, anchors, size)
        lost = np.ones(size, bool)
        lost[to[kept]] = before.lengths[kept] > moved.lengths[to[kept]]
        lists = _met(setting, kind, anchors, moved, fresh)
        again = anchors[_open(lists, lost, length)[anchors]]
        relisted[again] = True
        kinds[kind] = _listed(setting, kind, again, lists, length)
    deep = _deep(config, anchors, kinds, lengths)
    relisted[deep] = True
    most = DEEP_TIMES * lengths[NEGATIVE]
    kinds[NEGATIVE] = _listed(setting, NEGATIVE, deep, kinds[NEGATIVE], most).trimmed(most + most // 4, most)
    remembered = Remembered(kinds, set(np.flatnonzero(relisted).tolist()))
    return Reserve(about, key, content, remembered), changes


def _refuse_too_much(length: int, anchors: int, bytes_free: int) -> None:
    """Raise CapacityError when the lists of a run do not fit."""
    needed = ENTRY_BYTES * DEEP_BYTES_TIMES * length * anchors
    if needed > bytes_free:
        raise CapacityError(
            f"the reserve: lists of {length:,} for {anchors:,} anchors take some {needed:,} bytes, {bytes_free:,} are "
            "there for them",
            "lower --reserve, or raise --memory",
        )


def _why_full(changes: Changes) -> str:
    """Why what is remembered is of no use; empty where it is."""
    still = changes.unchanged + changes.changed
    if changes.changed > MOST_CHANGED * still:
        return f"{changes.changed:,} of {still:,} known rows were changed or embedded again"
    return "" if still else "no known row is left"


def _deep(config: MineConfig, anchors: Slots, kinds: dict[int, Lists], lengths: dict[int, int]) -> Slots:
    """The anchors whose band begins beyond their negatives' horizon; longer lists are worth their while."""
    if BANDS[config.band].low != AT_POSITIVE:
        return anchors[:0]
    positive, negative = kinds[POSITIVE], kinds[NEGATIVE]
    order = np.lexsort((positive.x, positive.owner))
    last = np.minimum(positive.start[:-1] + config.positives_per_anchor, positive.start[1:]) - 1
    known = positive.lengths > 0
    p = np.full(known.size, -np.inf)
    p[known] = positive.x[order[last[known]]]
    long = negative.lengths >= LEAST_SHARE * DEEP_TIMES * lengths[NEGATIVE]
    return anchors[((negative.horizon <= p) & ~long)[anchors]]


def _open(lists: Lists, lost: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Whose lists are searched for: of which nothing is known, or which have lost something and are short."""
    short = (lists.lengths < LEAST_SHARE * length) & (lists.horizon < np.inf)
    wanted: NDArray[np.bool_] = (lists.horizon == -np.inf) | (short & lost)
    return wanted


def _rule(setting: Setting, kind: int, take: int) -> Rule:
    """The `take` nearest of a kind, 0 = all, whatever else holds."""
    return Rule(kind, NEAREST, take, 0, IGNORE, IGNORE, 0.0, False, setting.metric.code)


def _met(setting: Setting, kind: int, anchors: Slots, lists: Lists, fresh: NDArray[np.bool_]) -> Lists:
    """The lists with the fresh rows that lie nearer than their horizons."""
    known = anchors[lists.horizon[anchors] > -np.inf]
    if not known.size or not fresh.any():
        return lists
    high = lists.horizon[known]
    high = np.where(np.isfinite(high), np.nextafter(high, -np.inf), high)
    pairs = one_pair_each(known.size)._replace(high=high)
    found = search_once(replace(setting, only=fresh), known, pairs, _rule(setting, kind, 0))
    return lists.joined(np.repeat(known.astype(np.int64), np.diff(found.start)), found.slot, found.x)


def _listed(setting: Setting, kind: int, anchors: Slots, lists: Lists, length: int) -> Lists:
    """The lists with those of `anchors` searched for among all rows."""
    for places in groups_of(np.arange(anchors.size), max(1, LISTED_AT_ONCE // length)):
        own = anchors[places]
        found = search_once(setting, own, one_pair_each(own.size), _rule(setting, kind, length))
        lists = lists.renewed(own, found, length)
    return lists
