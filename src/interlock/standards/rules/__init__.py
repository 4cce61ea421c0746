"""The rules of contracts, a file each, in the order in which they are told."""

from interlock.standards.rules.evt001 import EVT001
from interlock.standards.rules.grpc001 import GRPC001
from interlock.standards.rules.grpc002 import GRPC002
from interlock.standards.rules.grpc003 import GRPC003
from interlock.standards.rules.grpc004 import GRPC004
from interlock.standards.rules.int002 import INT002
from interlock.standards.rules.int003 import INT003
from interlock.standards.rules.rest001 import REST001
from interlock.standards.rules.rest002 import REST002
from interlock.standards.rules.sec003 import SEC003
from interlock.standards.rules.sec006 import SEC006

CONTRACT_RULES = (
    INT002, INT003, GRPC001, GRPC002, GRPC003, GRPC004, REST001, REST002, EVT001, SEC003, SEC006,
)  # fmt: skip
"""Every rule that `.proto` files can break."""
