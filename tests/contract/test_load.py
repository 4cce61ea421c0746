"""Loading: what a contract says, with its effective defaults."""

import gc
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from protobuf.wkt import FileDescriptorSet, Timestamp
from protovalidate import ValidationError, Validator

from interlock.contract.gen.interlock.v1.options_pb import Exposure, Idempotency, Tier
from interlock.contract.load import load
from interlock.contract.model import Contract, Kind, Objectives, Operation, RateLimit
from interlock.contract.names import snake_case
from tests.contract.protos import HEADER, image_of, rpc, service

IMAGE = Path(__file__).parents[1] / "sample/gen/contract.binpb"


@pytest.fixture(scope="module")
def sample() -> Contract:
    return load(IMAGE.read_bytes())


def find(root: Path, options: str, more: str = "", **kinds: str) -> Operation:
    return load(image_of(root, rpc(options, **kinds) + more)).services[0].operations[0]


def test_every_operation_of_the_users_services_is_there(sample: Contract) -> None:
    """Services of bundled packages are left out; operations stand in the order of the file."""
    assert [each.name for each in sample.services] == ["sample.v1.SampleService", "sample.v1.SampleListener"]
    names = [each.python_name for each in sample.services[0].operations]
    assert names[:5] == ["echo", "whisper", "echo_formerly", "fail", "slow"]
    kinds = {each.name: each.kind for each in sample.services[0].operations}
    assert (kinds["Echo"], kinds["CountUp"]) == (Kind.UNARY, Kind.SERVER_STREAM)
    assert (kinds["Sum"], kinds["Chat"]) == (Kind.CLIENT_STREAM, Kind.BIDI_STREAM)


def test_comments_and_places_come_from_the_source(sample: Contract) -> None:
    """A comment loses its slashes and keeps its paragraphs; a source is file and line."""
    echo = sample.operations["/sample.v1.SampleService/Echo"]
    assert echo.comment.splitlines()[:2] == ["Answers with what it was asked.", ""]
    text = (Path(__file__).parents[1] / "sample/contracts/sample/v1/sample.proto").read_text().splitlines()
    assert text[echo.source.line - 1].strip().startswith("rpc Echo(")
    assert echo.source.file == "sample/v1/sample.proto"
    assert sample.services[0].comment == "One service that can do whatever a test needs."


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    """An RPC that says only who may call it has the defaults."""
    operation = find(tmp_path, "")
    assert operation.timeout == timedelta(seconds=30)
    assert (operation.idempotency, operation.tier) == (Idempotency.NONE, Tier.STANDARD)
    assert (operation.exposure, operation.rate_limit) == (Exposure.INTERNAL, None)
    assert (operation.unauthenticated, operation.permission, operation.http) == (True, "", ())


def test_what_is_said_is_read(tmp_path: Path) -> None:
    """Every option of a method arrives in the operation."""
    operation = find(
        tmp_path,
        """option (interlock.v1.method) = {
          permission: "things:find" exposure: EXTERNAL timeout: { nanos: 250000000 } tier: ADMIN
          rate_limit: { requests: 100 per: { seconds: 60 } } errors: "OUT_OF_STOCK" errors: "TOO_LATE"
          examples: { name: "one" request: "{\\"id\\": \\"1\\"}" reply: "{}" }
          deprecation: { since: "2026-01-31" sunset: "2026-12-31" successor: "FindV2" }
          objectives: { latency_p95: { nanos: 50000000 } success_ratio: 0.999 requests_per_second: 500 }
        };""",
        access="",
    )
    assert (operation.permission, operation.unauthenticated) == ("things:find", False)
    assert (operation.exposure, operation.tier) == (Exposure.EXTERNAL, Tier.ADMIN)
    assert operation.timeout == timedelta(milliseconds=250)
    assert operation.rate_limit == RateLimit(requests=100, per=timedelta(minutes=1))
    assert operation.errors == ("OUT_OF_STOCK", "TOO_LATE")
    assert [(each.name, each.request, each.reply) for each in operation.examples] == [("one", '{"id": "1"}', "{}")]
    assert operation.deprecation is not None
    assert (operation.deprecation.since, operation.deprecation.sunset) == (date(2026, 1, 31), date(2026, 12, 31))
    assert operation.objectives == Objectives(
        latency_p95=timedelta(milliseconds=50), success_ratio=0.999, requests_per_second=500
    )


@pytest.mark.parametrize(
    "options, expected",
    [
        ('option (google.api.http) = { get: "/v1" };', Idempotency.SAFE),
        ('option (google.api.http) = { post: "/v1" additional_bindings { get: "/v2" } };', Idempotency.SAFE),
        ("option idempotency_level = NO_SIDE_EFFECTS;", Idempotency.SAFE),
        ("option idempotency_level = IDEMPOTENT;", Idempotency.NONE),
        (
            'option (google.api.http) = { get: "/v1" }; option (interlock.v1.method).idempotency = NONE;',
            Idempotency.NONE,
        ),
        ("option (interlock.v1.method).idempotency = KEYED;", Idempotency.KEYED),
    ],
)
def test_idempotency_is_what_is_said_or_what_follows(tmp_path: Path, options: str, expected: Idempotency) -> None:
    """Explicit wins; a GET or NO_SIDE_EFFECTS is SAFE; anything else is NONE."""
    assert find(tmp_path, options).idempotency == expected


def test_a_method_inherits_from_its_service(tmp_path: Path) -> None:
    """Tier and objectives are the service's where the method says nothing, objective by objective."""
    text = service(
        """rpc A(Query) returns (Answer) { option (interlock.v1.method).unauthenticated = true; }
        rpc B(Query) returns (Answer) {
          option (interlock.v1.method) = { unauthenticated: true tier: ADMIN objectives: { success_ratio: 0.5 } };
        }""",
        options="option (interlock.v1.service) = { tier: HIGH_VOLUME objectives: { requests_per_second: 7 } };",
    )
    a, b = load(image_of(tmp_path, text)).services[0].operations
    assert (a.tier, a.objectives) == (Tier.HIGH_VOLUME, Objectives(requests_per_second=7))
    assert (b.tier, b.objectives) == (Tier.ADMIN, Objectives(success_ratio=0.5, requests_per_second=7))


def test_routes_are_read_in_order(tmp_path: Path) -> None:
    """The main route comes first, then the additional ones, custom verbs in capitals."""
    operation = find(
        tmp_path,
        """option (google.api.http) = {
          patch: "/v1/{id}" body: "inner" response_body: "inners"
          additional_bindings { custom: { kind: "head" path: "/v1/{inner.id=shelves/*}:peek" } }
        };""",
    )
    assert [str(each) for each in operation.http] == ["PATCH /v1/{id}", "HEAD /v1/{inner.id=shelves/*}:peek"]
    assert (operation.http[0].body, operation.http[0].response_body) == ("inner", "inners")


def test_events_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """Nested messages may be events too."""
    text = """message Outer {
      // Made at last.
      message Made { option (interlock.v1.event) = { type: "thing.made" key: "id" }; string id = 1; }
    }"""
    (event,) = load(image_of(tmp_path, text)).events
    assert (event.type, event.key, event.comment) == ("thing.made", "id", "Made at last.")
    assert event.message_type.desc().type_name == "t.v1.Outer.Made"


def test_classes_from_an_image_work_with_everything(sample: Contract) -> None:
    """Messages made from the image validate, and well-known types are those that everybody imports."""
    echo = sample.operations["/sample.v1.SampleService/Echo"].request_type
    message: Any = echo.from_json('{"text": "a", "at": "2026-01-31T00:00:00Z", "items": [{"quantity": 0}]}')
    assert isinstance(message.at, Timestamp)
    with pytest.raises(ValidationError, match=r"items\[0\]\.quantity"):
        Validator().validate(message)
    assert echo.from_binary(message.to_binary()) == message


def test_an_image_without_source_info_loads_too() -> None:
    """Then comments are empty and lines unknown."""
    files = FileDescriptorSet.from_binary(IMAGE.read_bytes())
    for file in files.file:
        file.source_code_info = None
    echo = load(files.to_binary()).services[0].operations[0]
    assert (echo.comment, str(echo.source)) == ("", "sample/v1/sample.proto")


def test_imported_files_are_part_of_the_contract(tmp_path: Path) -> None:
    """Services and messages of several files make one contract."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/money.proto").write_text(
        'syntax = "proto3";\npackage shared;\nmessage Money { int64 units = 1; }'
    )
    text = 'import "shared/money.proto";\n' + rpc("", reply="shared.Money")
    operation = load(image_of(tmp_path, text)).services[0].operations[0]
    assert operation.reply_type.desc().type_name == "shared.Money"


def test_loading_is_quick_enough_for_every_start(sample: Contract) -> None:
    """The best of a few loads takes less than 30 ms."""
    image = IMAGE.read_bytes()

    def seconds() -> float:
        started = time.process_time()
        load(image)
        return time.process_time() - started

    assert min(seconds() for _ in range(5)) < 0.03


def test_loading_grows_with_the_contract_and_no_faster(tmp_path: Path) -> None:
    """Ten times the RPCs take about ten times as long, so no look-up is quadratic."""

    def seconds(count: int) -> float:
        options = "option (interlock.v1.method).unauthenticated = true;"
        body = "\n".join(f"// Comment.\nrpc Do{n}Thing(Query) returns (Answer) {{ {options} }}" for n in range(count))
        image = image_of(tmp_path / str(count), service(body))
        times = []
        gc.collect()
        gc.disable()  # what it costs depends on what else the process holds
        try:
            for _ in range(3):
                started = time.process_time()
                load(image)
                times.append(time.process_time() - started)
        finally:
            gc.enable()
        return min(times)

    assert seconds(2000) < 20 * seconds(200)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("GetOrder", "get_order"),
        ("GetHTTPInfo", "get_http_info"),
        ("HTTPGet", "http_get"),
        ("ListV2Orders", "list_v2_orders"),
        ("get_order", "get_order"),
        ("A", "a"),
    ],
)
def test_names_are_snake_case(name: str, expected: str) -> None:
    """An acronym is one word."""
    assert snake_case(name) == expected


def test_the_header_of_these_tests_has_no_mistake(tmp_path: Path) -> None:
    """So what a test finds is its own."""
    assert HEADER
    assert load(image_of(tmp_path, "")).services == ()
