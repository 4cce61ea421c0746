"""The stacks, and how a user's layers find their place in them."""

import pytest

from interlock import Call, Handler, Reply
from interlock.call import Layer, Middleware
from interlock.contract.model import Operation
from interlock.defaults import Named, after, before, insert
from interlock.observability.logging import AccessLog
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make


def named(*names: str) -> list[Named]:
    """Return a stack of layers that are told apart by their names."""
    return [Named(name, layer(name)) for name in names]


def layer(name: str, ran: list[str] | None = None) -> Layer:
    """Return a layer that notes that it ran."""

    def ask(_operation: Operation) -> Middleware:
        async def note(call: Call, proceed: Handler) -> Reply:
            if ran is not None:
                ran.append(name)
            return await proceed(call)

        return note

    ask.__name__ = name
    return ask


def order(stack: list[Layer]) -> list[str]:
    """Return the names of layers."""
    return [getattr(each, "__name__", "") for each in stack]


def test_layers_stand_around_their_anchors() -> None:
    """Before is nearer to the caller, after nearer to the handler, and several keep their order."""
    placed = [after("a", layer("1")), after("a", layer("2")), before("b", layer("3")), before("a", layer("0"))]
    assert order(insert(named("a", "b"), placed)) == ["0", "a", "1", "2", "3", "b"]


def test_an_unknown_anchor_names_the_known_ones() -> None:
    """A misspelt anchor is a ValueError that lists the anchors, and a user's own layers are none."""
    with pytest.raises(ValueError, match="no layer is called 'dedline'; there are: a, b"):
        insert(named("a", "b"), [after("dedline", layer("x"))])
    with pytest.raises(ValueError, match="no layer is called ''"):
        insert(named("a"), [after("a", layer("x")), after("", layer("y"))])
    with pytest.raises(ValueError, match="there are: none"):
        insert([], [before("a", layer("x"))])


def test_behind_several_of_one_name_is_behind_all_of_them() -> None:
    """With two layers of one name, before stands before the first and after behind the last."""
    stack = insert(named("a", "m", "m", "b"), [after("m", layer("1")), before("m", layer("0"))])
    assert order(stack) == ["a", "0", "m", "m", "1", "b"]


@pytest.mark.parametrize("access_log", [False, AccessLog(lambda _: None)], ids=["quiet", "logged"])
@pytest.mark.parametrize("anchor", ["log", "metrics", "deadline", "decode", "validate"])
async def test_every_anchor_is_there_whatever_the_options(anchor: str, access_log: AccessLog | bool) -> None:
    """An app that logs and measures nothing still has the places of both, so the same layers fit it."""
    ran: list[str] = []
    app = make(layers=[before(anchor, layer("before", ran)), after(anchor, layer("after", ran))], access_log=access_log)
    async with app, SampleServiceClient(app) as client:
        await client.echo(text="x")
    assert ran == ["before", "after"]


def test_an_app_refuses_an_unknown_anchor_when_it_is_made() -> None:
    """The mistake shows at start, not at the first call."""
    with pytest.raises(ValueError, match="no layer is called 'dedline'; there are: "):
        make(layers=[after("dedline", layer("x"))])
