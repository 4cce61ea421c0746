"""Mistakes in settings, told by the names of their variables."""

import re

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from interlock.settings.settings import Settings


def explain(error: ValidationError | SettingsError, settings_class: type[BaseSettings] = Settings) -> str:
    """Return what is wrong with the settings, a line each, naming the variable and what to do."""
    if isinstance(error, SettingsError):
        return _explain_source(error, settings_class)
    prefix = settings_class.model_config.get("env_prefix") or ""
    lines = []
    for each in error.errors(include_url=False):
        path = [str(part) for part in each["loc"]]
        message = each["msg"].removeprefix("Value error, ")
        if not path:
            lines.append(message)
            continue
        variable = prefix + "__".join(path).upper()
        dotted = ".".join(path)
        if each["type"] == "missing":
            lines.append(f"{variable} is not set; set it in the environment or .env, or {dotted} in interlock.toml")
        else:
            lines.append(f"{variable}: {message}{_given(path[0], each['input'])} (or {dotted} in interlock.toml)")
    return "\n".join(lines)


def _given(field: str, value: object) -> str:
    """Quote a wrong value of one of our own fields, but for those that hold secrets, as a service's own may."""
    known = Settings.model_fields.get(field)
    hidden = known is None or any(each in str(known.annotation) for each in ("SecretStr", "Url"))
    return f"; it is {value!r}" if not hidden and isinstance(value, str | int | float) else ""


def _explain_source(error: SettingsError, settings_class: type[BaseSettings]) -> str:
    message = str(error)
    match = re.search(r'error parsing value for field "(\w+)" from source "(\w+)"', message)
    if match is None:
        return message
    prefix = settings_class.model_config.get("env_prefix") or ""
    return (
        f"{prefix}{match[1].upper()} must be JSON, or be given by parts: {prefix}{match[1].upper()}__NAME=value"
        f" ({match[2]}: {error.__cause__})"
    )
