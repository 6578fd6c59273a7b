// Tags of previews, in plain JavaScript: `node --test` tests it, without WebAssembly.

/** Why nothing may be pushed, and what to do about it. */
export class Refused extends Error {
  constructor(reason, help) {
    super(reason);
    this.help = help;
  }
}

/**
 * `pr-N` for a merge or pull request, `edge` on the default branch, each also with the commit.
 * @param {{commit: string, branch?: string, defaultBranch?: string} | undefined} git
 * @param {Map<string, string>} variables of the continuous integration system
 */
export function tags(git, variables) {
  if (git === undefined) {
    throw new Refused('the context is not a git checkout', 'build from a checkout with its `.git`');
  }
  const number = requestNumber(variables);
  // What the remote says, or where it says nothing, the usual ones.
  const defaults = git.defaultBranch === undefined ? ['main', 'master'] : [git.defaultBranch];
  const isDefault = defaults.includes(git.branch);
  if (number === undefined && !isDefault) {
    throw new Refused('previews are of merge requests and of the default branch only', 'open a merge request');
  }
  const name = number === undefined ? 'edge' : `pr-${number}`;
  return [name, `${name}-${git.commit.slice(0, 12)}`];
}

/** The number of a merge request (GitLab) or pull request (GitHub), if the job is of one. */
function requestNumber(variables) {
  const number = variables.get('CI_MERGE_REQUEST_IID') ?? /^refs\/pull\/(.*)\/merge$/.exec(variables.get('GITHUB_REF') ?? '')?.[1];
  return /^[0-9]{1,10}$/.test(number ?? '') ? number : undefined;
}
