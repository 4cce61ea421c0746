"""The stacks: which layers a call passes, outermost first, each position with its reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protovalidate import Validator

from interlock.call import Layer
from interlock.contract.model import Operation
from interlock.observability.logging import AccessLog, log
from interlock.observability.measure import Meter, metrics
from interlock.protocols.decode import decode, validate
from interlock.resilience.deadline import Wheel, deadline


@dataclass(frozen=True, slots=True)
class Named:
    """A layer under the name by which others are placed around it."""

    name: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class Placed:
    """A user's layer and where it goes: right after, or right before, the layer called `anchor`."""

    anchor: str
    layer: Layer
    behind: bool


def after(anchor: str, layer: Layer) -> Placed:
    """Place `layer` right behind the layer called `anchor`, nearer to the handler."""
    return Placed(anchor, layer, behind=True)


def before(anchor: str, layer: Layer) -> Placed:
    """Place `layer` right in front of the layer called `anchor`, nearer to the caller."""
    return Placed(anchor, layer, behind=False)


def served(*, access_log: AccessLog | None, meters: Sequence[Meter], wheel: Wheel, validator: Validator) -> list[Named]:
    """Return the stack of SERVED calls."""
    return [
        # outermost, so that it times and tells of everything that follows, refusals included
        Named("log", log(access_log) if access_log is not None else _nothing),
        # beside the log: what is logged is counted
        *(Named("metrics", metrics(meter)) for meter in meters),
        *([] if meters else [Named("metrics", _nothing)]),
        # from here on time runs; before the body is read, so that a slow sender is cut off too
        Named("deadline", deadline(wheel)),
        # the body is read only now, behind all that decides on the head alone
        Named("decode", decode),
        # the handler sees nothing that breaks its contract
        Named("validate", validate(validator)),
    ]


def _nothing(_operation: Operation) -> None:
    """Hold the place of a layer that an app does without, so that others can be placed around it all the same."""


def sent() -> list[Named]:
    """Return the stack of SENT calls."""
    return []


def insert(stack: Sequence[Named], placed: Iterable[Placed]) -> list[Layer]:
    """Return the layers of `stack` with the user's in their places; ValueError names the anchors there are."""
    result = list(stack)
    for each in placed:
        names = [named.name for named in result]
        if not each.anchor or each.anchor not in names:
            known = ", ".join(dict.fromkeys(filter(None, names)))
            raise ValueError(f"no layer is called {each.anchor!r}; there are: {known or 'none'}")
        at = len(names) - names[::-1].index(each.anchor) if each.behind else names.index(each.anchor)
        # layers placed behind one anchor keep their order
        while each.behind and at < len(result) and not result[at].name:
            at += 1
        result.insert(at, Named("", each.layer))
    return [named.layer for named in result]
