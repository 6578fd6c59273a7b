// Makes preview.wasm: one script of the two modules, with a JavaScript engine around it.

import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { componentize } from '@bytecodealliance/componentize-js';

// The interface as its reader wants it: the packages that others need stand in `deps`.
const wit = await mkdtemp(join(tmpdir(), 'wit-'));
try {
  await cp('wit/tags', wit, { recursive: true });
  await cp('wit/types', join(wit, 'deps/types'), { recursive: true });
  const { component } = await componentize({
    sourcePath: 'component.js',
    witPath: wit,
    worldName: 'tags',
    // A tagging policy is given no network, and WASI has none of these two.
    disableFeatures: ['http', 'fetch-event'],
  });
  await writeFile('preview.wasm', component);
} finally {
  await rm(wit, { recursive: true });
}
