// The component: from the interface's records to plain JavaScript and back.

import { Refused, tags } from './preview.js';

export const policy = {
  decide(facts, requested) {
    for (const { key } of requested.options) {
      const message = `the policy has no option \`${key}\``;
      throw { tag: 'invalid', val: { severity: 'error', code: 'UnknownOption', message, help: 'leave it out' } };
    }
    const variables = new Map((facts.ci?.variables ?? []).map(({ key, value }) => [key, value]));
    try {
      // Those written out come first, and none comes twice.
      const all = new Set([...requested.tags, ...tags(facts.git, variables)]);
      return { tag: 'push', val: { tags: [...all], labels: [], annotations: [] } };
    } catch (problem) {
      if (problem instanceof Refused) {
        return { tag: 'refused', val: { reason: problem.message, help: problem.help } };
      }
      throw problem;
    }
  },
};
