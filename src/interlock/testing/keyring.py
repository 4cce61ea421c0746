"""Keys of the tests' own, and tokens signed with them."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from interlock.security.credentials import BearerToken, Credentials
from interlock.security.keys import ensure_keys
from interlock.security.tokens import Issuer


class Keyring:
    """Keys in `directory`, made there if there are none; services whose setting `keys` names it take the tokens."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.keys = ensure_keys(directory)

    def issuer(self, name: str = "service-auth", audience: str = "microservices") -> Issuer:
        """Return what signs, for tokens of another issuer or audience than the settings' defaults."""
        return Issuer(keys=self.keys, name=name, audience=audience)

    def token(self, *roles: str, subject: str = "tester", lifetime: timedelta = timedelta(hours=1)) -> str:
        """Return a token of `subject` with these roles."""
        return self.issuer().mint(subject, roles, lifetime=lifetime)

    def credentials(self, *roles: str, subject: str = "tester") -> Credentials:
        """Return what a client shows: `OrderServiceClient(…, credentials=keys.credentials("operator"))`."""
        return BearerToken(self.token(*roles, subject=subject))

    def headers(self, roles: Iterable[str], subject: str = "tester") -> dict[str, str]:
        """Return the header that a REST client sends."""
        return {"authorization": f"Bearer {self.token(*roles, subject=subject)}"}
