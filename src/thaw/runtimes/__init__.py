"""How each language runtime is found on this machine, completed with its client, and launched in a sandbox.

::

    runtimes = Runtimes(settings.state_dir, region=settings.region)
    runtime = await runtimes.find("python3.13")      # seconds the first time, then immediate
    runtime.mounts, runtime.argv, runtime.variables  # all that a sandbox needs to start it

`interpreters` looks for what is installed, `client` adds the runtime interface client, `bootstrap/` is what
runs first in the function's process.
"""

from thaw.runtimes.host import Runtimes
from thaw.runtimes.runtime import Mount, Runtime

__all__ = ["Mount", "Runtime", "Runtimes"]
