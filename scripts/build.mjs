// Builds dist/: each program and whatever of the packages it uses in a few files. Node then opens, resolves and compiles few
// modules at a start instead of a thousand, which is most of what a command takes.
// What a program looks up by name stays in node_modules: the page's scripts, the embedded PostgreSQL.
import { readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ['src/main.ts', 'src/cli.ts', 'src/demo.ts', 'src/sandbox/main.ts'],
  outdir: 'dist',
  bundle: true,
  // What only one command needs is loaded with that command.
  splitting: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  // Never installed; pg asks for it.
  external: ['pg-native'],
  // CommonJS packages load Node's own modules with require.
  banner: {
    js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url)",
  },
  // Not keepNames: it would name each closure anew whenever one is made, in the middle of a request.
  sourcemap: true,
  metafile: true,
  logLevel: 'warning',
})

// What an earlier build left goes only now: a program that runs from here still loads some of its files later.
for (const entry of await readdir(path.join(root, 'dist'), { recursive: true, withFileTypes: true })) {
  const file = path.join(entry.parentPath, entry.name)
  if (entry.isFile() && !(path.relative(root, file) in metafile.outputs)) await rm(file)
}
