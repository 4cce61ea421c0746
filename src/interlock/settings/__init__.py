"""What a process reads when it starts: flags, environment, `.env`, secrets directory, `interlock.toml`, defaults.

Every field is documented by its description; the reference page and `interlock show settings` are made from them.
A service adds fields of its own by subclassing. Imported only where an app starts, so `import interlock` stays light.
"""

from interlock.settings.explain import explain
from interlock.settings.identity import IssuerSettings
from interlock.settings.settings import MissingUpstream, ProcessSettings, Settings
from interlock.settings.sources import PREFIX
from interlock.settings.values import ByteSize, Duration

__all__ = [
    "PREFIX", "ByteSize", "Duration", "IssuerSettings", "MissingUpstream", "ProcessSettings", "Settings", "explain",
]  # fmt: skip
