"""Lists: page tokens, filters and orders, parsed and bound to the fields that a contract declares. Pure: no SQL."""

from interlock.listing.fields import Field, Fields, Kind, declared
from interlock.listing.filters import And, Comparison, Filter, Not, Or, parse_filter
from interlock.listing.orders import Sort, parse_order
from interlock.listing.tokens import PageTokens, Position

__all__ = [
    "And",
    "Comparison",
    "Field",
    "Fields",
    "Filter",
    "Kind",
    "Not",
    "Or",
    "PageTokens",
    "Position",
    "Sort",
    "declared",
    "parse_filter",
    "parse_order",
]
