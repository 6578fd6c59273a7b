"""The component: from the interface's records to plain Python and back."""

from typing import Optional

from calendar_tags import Checkout, Refused, tags
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.policy import Decision, Decision_Push, Decision_Refused, Facts, GitFacts, Naming, Refusal, Requested
from wit_world.imports.diagnostics import Diagnostic, Error_Invalid, Severity


class Policy(exports.Policy):
    def decide(self, facts: Facts, requested: Requested) -> Decision:
        for option in requested.options:
            message = f"the policy has no option `{option.key}`"
            raise Err(Error_Invalid(Diagnostic(Severity.ERROR, "UnknownOption", message, None, "leave it out")))
        try:
            found = tags(checkout(facts.git))
        except Refused as refused:
            return Decision_Refused(Refusal(refused.reason, refused.help))
        # Those written out come first, and none comes twice.
        return Decision_Push(Naming(list(dict.fromkeys(requested.tags + found)), [], []))


def checkout(git: Optional[GitFacts]) -> Optional[Checkout]:
    if git is None:
        return None
    return Checkout(git.commit, git.branch, git.default_branch, git.commit_time.seconds, git.dirty)
