"""`interlock show openapi`."""

import json
from pathlib import Path

import pytest

from interlock.cli import main

SHOP = str(Path(__file__).resolve().parents[2] / "examples" / "shop")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["show", "openapi", *arguments])
    assert not end.value.code
    return capsys.readouterr().out


def test_it_prints_the_same_document_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """All services of a project, as JSON."""
    first = printed(capsys, SHOP)
    assert first == printed(capsys, SHOP)
    assert {each["name"] for each in json.loads(first)["tags"]} == {
        "CustomerService", "InventoryService", "OrderService", "PaymentService"
    }  # fmt: skip


def test_services_and_what_is_external_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """`--service` by short or full name, `--external` as a gateway routes."""
    whole = json.loads(printed(capsys, SHOP, "--service", "OrderService"))
    assert [each["name"] for each in whole["tags"]] == ["OrderService"]
    assert "/api/v1/orders/{order_id}:updateStatus" in whole["paths"]
    outside = json.loads(printed(capsys, SHOP, "--service", "api.order.v1.OrderService", "--external"))
    assert "/api/v1/orders/{order_id}:updateStatus" not in outside["paths"]
    assert all(each["x-interlock-external"] for item in outside["paths"].values() for each in item.values())


def test_an_unknown_service_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, a line, no traceback."""
    with pytest.raises(SystemExit) as end:
        main(["show", "openapi", SHOP, "--service", "OrdrService"])
    assert end.value.code == 2
    assert "did you mean 'OrderService'" in capsys.readouterr().err
