"""Several services on one machine behind one gateway: in one process, or a process each."""

from interlock.platform.gateway import gateway, mount
from interlock.platform.platform import Platform
from interlock.platform.running import Running, interruption, run_here, run_split

__all__ = ["Platform", "Running", "gateway", "interruption", "mount", "run_here", "run_split"]
