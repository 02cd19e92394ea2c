"""Documents of which an entry is something else: every place of one, and what may stand there."""

import copy
import random

GONE, TWICE, MORE = object(), object(), object()


def _deep(levels):
    return [] if not levels else [_deep(levels - 1)]


# What no program writes there, and what a person or a broken one might.
ODD = {
    **{repr(value): value for value in (None, True, False, "", "x", "1", -1, 0, 5, 1.5, -0.0, 5e-324, 1e308, 10**9, 10**30)},
    **{repr(value): value for value in ([], {}, [[]], [None], [5], {"a": 1}, "../../../etc")},
    "inf": float("inf"),
    "-inf": -float("inf"),
    "nan": float("nan"),
    "deep": _deep(150),
    "long": "q" * 100_000,
    "control characters": "\x1b[31m\x07\n\r",
    "half a letter": "\ud800",
    "gone": GONE,
    "twice": TWICE,
    "more": MORE,
}


def places(values, at=()):
    """Ways to all that a document holds, of a list to its first three places."""
    yield at
    inner = values.items() if isinstance(values, dict) else enumerate(values[:3]) if isinstance(values, list) else ()
    for key, value in inner:
        yield from places(value, (*at, key))


def changed(values, at, odd):
    """The document with something else at a place."""
    if not at:
        return {} if odd is GONE else [values, values] if odd in (TWICE, MORE) else copy.deepcopy(odd)
    made = copy.deepcopy(values)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    key = at[-1]
    if odd is GONE:
        del inner[key]
    elif odd is TWICE:
        inner[key] = [inner[key], inner[key]]
    elif odd is MORE:
        inner[key] = _more(inner[key])
    else:
        inner[key] = odd
    return made


def _more(value):
    """A little more than what was there."""
    if isinstance(value, dict):
        return {**value, "more": 1}
    if isinstance(value, list):
        return [*value, *(value[-1:] or [1])]
    return not value if isinstance(value, bool) else 7 if value is None else value + type(value)(1)


def drawn(values, count, seed, but=()):
    """Places and what stands there, all of them or a fair draw; `but`: first keys of those that are left alone."""
    every = [(at, name) for at in places(values) if at[:1] not in [(key,) for key in but] for name in ODD]
    return random.Random(seed).sample(every, min(count, len(every)))
