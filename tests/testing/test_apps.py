"""The fixture `app`, and the life of an app that a test starts."""

import asyncio
import os
from pathlib import Path

import pytest

from interlock import App, Unauthenticated, Unavailable
from interlock.data import Database
from interlock.events.broker import Broker
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.publisher import InvalidEvent
from interlock.server import StartError, serving
from interlock.settings import Settings
from interlock.testing import Apps, Certificates, Keyring, Surroundings, app_running, until
from shop import customers, payments
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.order.v1.events_pb import OrderConfirmed
from shop.gen.api.payment.v1.events_pb import PaymentCompleted
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample


def make_sample() -> App:
    """Make an app without a database."""
    return App(Sample(), settings=Settings())


async def test_an_app_in_process_knows_who_calls(app: Apps) -> None:
    """What the test's keys signed is taken, and nothing is let in without a token."""
    served = await app(customers.make, log_level="error")
    assert served.address is None
    known = served.client(CustomerServiceClient, "operator")
    assert (await known.get_customer(customer_id="c-1")).name == "Ada"
    with pytest.raises(Unauthenticated):
        await served.client(CustomerServiceClient).get_customer(customer_id="c-1")
    with pytest.raises(RuntimeError, match="port=True"):
        served.http()


async def test_an_app_on_a_port_is_called_over_sockets(app: Apps) -> None:
    """The client speaks gRPC then, and REST is there too."""
    served = await app(customers.make, port=True, log_level="error")
    assert (await served.client(CustomerServiceClient, "operator").get_customer(customer_id="c-2")).name == "Grace"
    assert (await served.http("operator").get("/api/v1/customers/c-2")).json()["data"]["name"] == "Grace"
    assert (await served.http().get("/api/v1/customers/c-2")).status_code == 401


async def test_mutual_tls_by_the_tests_certificates(app: Apps, certificates: Certificates) -> None:
    """A client with a certificate of the authority is let in; one without is not."""
    served = await app(make_sample, tls=certificates.server(mutual=True))
    known = served.client(SampleServiceClient, tls=certificates.client("tester.internal"))
    assert (await known.echo(text="sealed")).text == "sealed"
    stranger = served.client(SampleServiceClient, tls=certificates.client())
    with pytest.raises(Unavailable):
        await stranger.using(timeout=2).echo(text="open")


async def test_what_services_keep_lies_below_the_test(app: Apps, tmp_path: Path) -> None:
    """Database and broker are files of the test, and the environment is as before."""
    await app(payments.make, log_level="error")
    assert {"payments.db", "broker.db"} <= {entry.name for entry in os.scandir(tmp_path)}
    assert Settings().keys == Path("var/keys")


async def test_a_factory_may_take_a_broker(app: Apps, broker: MemoryBroker) -> None:
    """A broker that is an object is handed to the factory."""
    given: list[Broker | None] = []

    def make(broker: Broker | None = None) -> App:
        given.append(broker)
        return make_sample()

    await app(make, broker=broker)
    assert given == [broker]


async def test_what_a_factory_returns_is_looked_at(app: Apps) -> None:
    """A factory that returns no app is named."""
    with pytest.raises(TypeError, match="returned NoneType, not an App"):
        await app(lambda: None)  # type: ignore[arg-type, return-value]  # the mistake


async def test_an_app_is_started_once(surroundings: Surroundings) -> None:
    """A second start is refused, and the first goes on; after its end it may be started again."""
    app = make_sample()
    async with app_running(app, surroundings) as first:
        with pytest.raises(RuntimeError, match="started already"):
            await app.start()
        with pytest.raises(StartError, match="started already"):
            async with serving(app):
                pass
        assert (await first.client(SampleServiceClient).echo(text="still here")).text == "still here"
    async with app_running(app, surroundings) as again:
        assert (await again.client(SampleServiceClient).echo(text="again")).text == "again"


async def test_a_drained_app_takes_no_calls_in_process() -> None:
    """They are refused as UNAVAILABLE, as the server's closed port refuses those from outside."""
    async with make_sample() as app, SampleServiceClient(app) as client:
        await client.echo(text="before")
        await app.drain(1)
        with pytest.raises(Unavailable, match="shutting down"):
            await client.using(timeout=0.5).echo(text="after")


async def test_an_app_without_a_database_publishes_directly(surroundings: Surroundings) -> None:
    """`app.publish` goes to the broker at once; what the service does not publish is refused, and so is it before."""
    broker = MemoryBroker()
    with surroundings.around({"log_level": "error"}):
        settings = ShopSettings(service_name="payments")
    app = App(
        payments.Payments(Database(f"sqlite:///{surroundings.directory}/unused.db")), settings=settings, broker=broker
    )
    event = PaymentCompleted(order_id="o-1")
    with pytest.raises(RuntimeError, match="not started"):
        await app.publish(event)
    async with app:
        await app.publish(event)
        assert await broker.lag("anybody", ["payment.completed"]) == 1
        with pytest.raises(InvalidEvent, match="OrderConfirmed"):
            await app.publish(OrderConfirmed(order_id="o-1"))
    async with known_customers(surroundings) as silent:
        with pytest.raises(RuntimeError, match="publishes no events"):
            await silent.publish(event)


def known_customers(surroundings: Surroundings) -> App:
    """Make an app without events."""
    with surroundings.around({"log_level": "error"}):
        return customers.make()


async def test_missing_keys_are_told_of_once_where_they_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: Keyring
) -> None:
    """At the start of a service that takes tokens, with the remedy; never at one that takes calls from anybody."""
    nowhere = ShopSettings(keys=tmp_path / "none", database_url=f"sqlite:///{tmp_path}/c.db", log_level="error")
    async with customers.make(nowhere) as app, CustomerServiceClient(app, credentials=keys.credentials()) as client:
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="interlock keys new"):
                await client.get_customer(customer_id="c-1")
    told = [each.getMessage() for each in caplog.records if "there are no keys" in each.getMessage()]
    assert len(told) == 1
    assert "interlock keys new" in told[0]


async def test_waiting_tells_what_it_waited_for() -> None:
    """A condition may be async; what it returns is returned, or named when time is up."""
    answers = iter([0, "", "there"])

    async def soon() -> object:
        return next(answers)

    assert await until(soon, pause=0) == "there"
    with pytest.raises(TimeoutError, match=r"never.*0\.05 s.*False"):
        await until(never, 0.05)
    await asyncio.sleep(0)


def never() -> bool:
    """Be false."""
    return False
