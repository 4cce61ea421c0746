"""FastAPI with pydantic models of the same shape, bare, on uvicorn with uvloop and httptools."""

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bench.servers import port


class Money(BaseModel):
    currency_code: str
    units: int
    nanos: int


class OrderItem(BaseModel):
    product_id: str
    quantity: int
    unit_price: Money


class Order(BaseModel):
    id: str
    customer_id: str
    items: list[OrderItem]
    total: Money
    status: str
    etag: str


app = FastAPI()


@app.get("/api/v1/orders/{order_id}")
async def get_order(order_id: str) -> Order:
    return Order(
        id=order_id,
        customer_id="c-1",
        items=[
            OrderItem(
                product_id="p-cup", quantity=2, unit_price=Money(currency_code="EUR", units=12, nanos=500_000_000)
            ),
            OrderItem(
                product_id="p-pot", quantity=1, unit_price=Money(currency_code="EUR", units=34, nanos=900_000_000)
            ),
            OrderItem(
                product_id="p-tea", quantity=5, unit_price=Money(currency_code="EUR", units=7, nanos=250_000_000)
            ),
        ],
        total=Money(currency_code="EUR", units=96, nanos=150_000_000),
        status="ORDER_STATUS_CONFIRMED",
        etag="1",
    )


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=port(), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
