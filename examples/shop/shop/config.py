"""What the services of the shop read beside Interlock's own settings."""

from pathlib import Path

from pydantic import Field
from sqlalchemy import MetaData

from interlock import Settings, Url
from interlock.data import Database

HERE = Path(__file__).resolve().parent.parent


class ShopSettings(Settings):
    """Settings of one service of the shop."""

    roles: Path | None = Field(default=HERE / "roles.yaml", description="What each role permits.")
    service_roles: tuple[str, ...] = Field(default=("service",), description="Roles of a service that acts by itself.")
    database_url: Url = Field(
        default=Url(""),
        description="The service's database, {name} standing for the service; empty: a file below var/.",
    )

    def database(self, name: str, metadata: MetaData) -> Database:
        """Return the database of the service called `name`, with its tables."""
        return Database((self.database_url.reveal() or "sqlite:///var/{name}.db").format(name=name), metadata=metadata)
