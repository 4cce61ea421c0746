"""One neighbour as a client calls it: what its calls share, and the layers that its policies ask for.

Typed clients and outbound HTTP are made of the same ones.
"""

from collections.abc import Mapping

from interlock.call import Middleware
from interlock.contract.model import Operation
from interlock.resilience.budget import RetryBudget
from interlock.resilience.circuit_breaker import BreakerPolicy, Breakers, State, circuit_breaker
from interlock.resilience.concurrency import Bulkhead, BulkheadPolicy, concurrency
from interlock.resilience.policies import Policies
from interlock.resilience.retry import retry
from interlock.resilience.throttle import Throttles, throttle


class Neighbour:
    """The state of one client's calls to one target: retry budget, breakers, bulkheads, throttles.

    Its methods are layers. `together`: one rate limit for all operations, told by anybody's headers; else only
    operations whose contract has a limit are throttled. Belongs to one event loop.
    """

    def __init__(self, policies: Policies, *, together: bool = False) -> None:
        self.policies = policies
        self.target = str(policies.target)
        self._together = together
        self._budget = RetryBudget()
        self._breakers = Breakers(BreakerPolicy(), target="" if together else self.target)  # there it is in the path
        self._bulkheads: dict[BulkheadPolicy | str, Bulkhead] = {}
        self._throttles = Throttles(together=together)

    def retry(self, operation: Operation) -> Middleware | None:
        """Try again as the operation's policy says."""
        return retry(self.policies.of(operation).retry, self._budget)(operation)

    def breaker(self, operation: Operation) -> Middleware | None:
        """Leave the target alone while the operation fails."""
        policy = self.policies.of(operation).breaker
        if policy is None:
            return None
        self._breakers.of(operation, policy)
        return circuit_breaker(self._breakers)(operation)

    def concurrency(self, operation: Operation) -> Middleware | None:
        """Bound the calls that run at a time."""
        return concurrency(self._bulkhead(operation))(operation)

    def throttle(self, operation: Operation) -> Middleware | None:
        """Keep calls under the rate limit that was told."""
        policy = self.policies.of(operation)
        if not policy.throttle or not (self._together or operation.rate_limit is not None):
            return None
        return throttle(self._throttles, policy.retry.longest_pause)(operation)

    def _bulkhead(self, operation: Operation) -> Bulkhead:
        """Return the operation's own bulkhead, or the one it shares with those of equal numbers."""
        policy = self.policies.of(operation).bulkhead
        key = operation.path if self.policies.has_own_bulkhead(operation) else policy
        found = self._bulkheads.get(key)
        if found is None:
            found = self._bulkheads[key] = Bulkhead(policy, self.target)
        return found

    def states(self) -> Mapping[str, State]:
        """Return the state of every breaker, by RPC path."""
        return self._breakers.states()

    def places(self) -> Mapping[str, tuple[int, int, int]]:
        """Return how many calls run, wait, and were refused at each bulkhead: an operation's own, `*` for others."""
        found: dict[str, tuple[int, int, int]] = {}
        for key, each in self._bulkheads.items():
            name = key if isinstance(key, str) else "*"
            there = found.get(name, (0, 0, 0))
            found[name] = (there[0] + each.running, there[1] + each.waiting, there[2] + each.refused)
        return found
