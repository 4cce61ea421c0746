"""Where settings come from beside the environment: `interlock.toml`, and a directory of secrets."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsError, TomlConfigSettingsSource

PREFIX = "INTERLOCK_"


class Toml(TomlConfigSettingsSource):
    """`interlock.toml`, or the file that INTERLOCK_CONFIG names; a name that is no field is a mistake."""

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        named = os.environ.get(PREFIX + "CONFIG")
        path = Path(named or "interlock.toml")
        if named and not path.is_file():
            raise SettingsError(f"{PREFIX}CONFIG (or --config) names {named}, and there is no such file")
        try:
            super().__init__(settings_class, path)
        except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
            raise SettingsError(f"{path} is not TOML: {error}") from None
        if getattr(settings_class, "refuse_unknown", True):
            _refuse_unknown(path, self.toml_data, settings_class.model_fields)


def _refuse_unknown(path: Path, given: Iterable[str], fields: Iterable[str]) -> None:
    known = list(fields)
    wrong = [name for name in given if name not in known]
    if wrong:
        raise SettingsError("\n".join(f"{path}: {name} is no setting{_nearest(name, known)}" for name in wrong))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def secrets_directory() -> str | None:
    """Return the directory whose files are settings by name; SettingsError where one is named that is not there."""
    directory = os.environ.get(PREFIX + "SECRETS")
    if directory and not Path(directory).is_dir():
        raise SettingsError(f"{PREFIX}SECRETS names {directory}, and there is no such directory")
    if not directory and Path("/run/secrets").is_dir():
        return "/run/secrets"
    return directory
