"""Tags by the day of the commit, in plain Python: `python3 -m unittest` tests it, without WebAssembly."""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional


class Refused(Exception):
    """Why nothing may be pushed, and what to do about it."""

    def __init__(self, reason: str, help: Optional[str] = None):
        super().__init__(reason)
        self.reason, self.help = reason, help


@dataclass
class Checkout:
    """What the policy looks at."""

    commit: str
    branch: Optional[str]
    default_branch: Optional[str]
    #: Seconds since 1970-01-01T00:00:00Z.
    commit_seconds: int
    dirty: bool


def tags(checkout: Optional[Checkout]) -> list[str]:
    """The day, the day with the commit, and on the default branch `latest`."""
    if checkout is None:
        raise Refused("the context is not a git checkout", "build from a checkout with its `.git`")
    if checkout.dirty:
        raise Refused("the checkout has changes that no commit holds", "commit them, or put them aside")
    day = datetime.fromtimestamp(checkout.commit_seconds, timezone.utc).strftime("%Y.%m.%d")
    found = [day, f"{day}-{checkout.commit[:12]}"]
    if checkout.branch in default_branches(checkout):
        found.append("latest")
    return found


def default_branches(checkout: Checkout) -> list[str]:
    """What the remote says, or where it says nothing, the usual ones."""
    return ["main", "master"] if checkout.default_branch is None else [checkout.default_branch]
