"""`python -m interlock.cli`, for where the script `interlock` is not on the PATH."""

from interlock.cli import main

main()
