import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Refused, tags } from './preview.js';

const git = { commit: '0123456789abcdef0123456789abcdef01234567', branch: 'dev', defaultBranch: 'main' };
const of = (variables) => new Map(Object.entries(variables));

test('a request has its number', () => {
  const expected = ['pr-42', 'pr-42-0123456789ab'];
  assert.deepEqual(tags(git, of({ CI_MERGE_REQUEST_IID: '42' })), expected);
  assert.deepEqual(tags(git, of({ GITHUB_REF: 'refs/pull/42/merge' })), expected);
});

test('the default branch is the edge', () => {
  assert.deepEqual(tags({ ...git, branch: 'main' }, of({})), ['edge', 'edge-0123456789ab']);
  assert.equal(tags({ commit: git.commit, branch: 'main' }, of({}))[0], 'edge');
  assert.throws(() => tags({ ...git, branch: 'main', defaultBranch: 'trunk' }, of({})), Refused);
});

test('another branch has no preview', () => {
  for (const variables of [{}, { GITHUB_REF: 'refs/pull/x/merge' }, { CI_MERGE_REQUEST_IID: '../1' }]) {
    assert.throws(() => tags(git, of(variables)), Refused);
  }
  assert.throws(() => tags(undefined, of({})), Refused);
});
