import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseAllDocuments, stringify } from 'yaml'
import { ReanchorError } from '../../src/errors.ts'
import { applyWiring, wiringHolds } from '../../src/gitops/yaml-edit.ts'
import type { WiringEdit } from '../../src/rotation.ts'

const component = '../../trust/eu-1/components/istiod'
const addComponent: WiringEdit = { kind: 'listItem', document: 'single', at: ['components'], value: component }

function set(at: readonly string[], value: unknown): WiringEdit {
  return { kind: 'set', document: 'single', at, value }
}

function item(at: readonly string[], value: unknown): WiringEdit {
  return { kind: 'listItem', document: 'single', at, value }
}

function remove(at: readonly string[]): WiringEdit {
  return { kind: 'remove', document: 'single', at }
}

function intoList(at: readonly string[], to: string): WiringEdit {
  return { kind: 'intoList', document: 'single', at, to }
}

function drop(at: readonly string[], value: string): WiringEdit {
  return { kind: 'dropItem', document: 'single', at, key: 'name', value }
}

const cases: Readonly<Record<string, { readonly before: string; readonly edit: WiringEdit; readonly after: string }>> =
  {
    'adds a list where there is none, indented as the file’s other lists': {
      before: '# mesh\nresources:\n- istio.yaml # the mesh\n\n# end\n',
      edit: addComponent,
      after: `# mesh\nresources:\n- istio.yaml # the mesh\ncomponents:\n- ${component}\n\n# end\n`,
    },
    'indents a new list where the file does': {
      before: 'resources:\n    - istio.yaml\n',
      edit: addComponent,
      after: `resources:\n    - istio.yaml\ncomponents:\n  - ${component}\n`,
    },
    'appends to a list that is not indented': {
      before: 'components:\n- a\n- b  # last\n# about resources\nresources: []\n',
      edit: addComponent,
      after: `components:\n- a\n- b  # last\n- ${component}\n# about resources\nresources: []\n`,
    },
    'appends to a list on one line': {
      before: 'resources: [istio.yaml]\ncomponents: [ a, "b" ] # two\n',
      edit: addComponent,
      after: `resources: [istio.yaml]\ncomponents: [ a, "b", ${component} ] # two\n`,
    },
    'fills an empty list on one line': {
      before: 'components: [] # none yet\n',
      edit: addComponent,
      after: `components: [${component}] # none yet\n`,
    },
    'fills a key with nothing behind, its comment stays': {
      before: 'components: # none yet\nresources: [a]\n',
      edit: addComponent,
      after: `components: # none yet\n  - ${component}\nresources: [a]\n`,
    },
    'appends to a list of maps': {
      before: 'spec:\n    valuesFrom:\n        -   kind: ConfigMap\n            name: a\n    x: 1\n',
      edit: item(['spec', 'valuesFrom'], { kind: 'ConfigMap', name: 'reanchor-istiod-values' }),
      after:
        'spec:\n    valuesFrom:\n        -   kind: ConfigMap\n            name: a\n        - kind: ConfigMap\n          name: reanchor-istiod-values\n    x: 1\n',
    },
    'makes the parents that are missing': {
      before: 'spec:\n  path: ./apps # here\n\n  interval: 1m\n',
      edit: set(['spec', 'decryption', 'secretRef', 'name'], 'sops-age'),
      after: 'spec:\n  path: ./apps # here\n\n  interval: 1m\n  decryption:\n    secretRef:\n      name: sops-age\n',
    },
    'sets a scalar and leaves its comment': {
      before: 'spec: {prune: true} # x\n',
      edit: set(['spec', 'prune'], false),
      after: 'spec: {prune: false} # x\n',
    },
    'sets a block scalar’s successor': {
      before: 'a: |\n  text\n\nb: old # note\n',
      edit: set(['b'], 'new'),
      after: 'a: |\n  text\n\nb: new # note\n',
    },
    'puts a map in the place of a block map': {
      before: 'spec:\n  decryption: # how\n    provider: old\n    # inner\n    x: y\n  prune: true\n',
      edit: set(['spec', 'decryption'], { provider: 'sops', secretRef: { name: 'sops-age' } }),
      after: 'spec:\n  decryption: # how\n    provider: sops\n    secretRef:\n      name: sops-age\n  prune: true\n',
    },
    'keeps carriage returns': {
      before: 'resources:\r\n  - a\r\n',
      edit: addComponent,
      after: `resources:\r\n  - a\r\ncomponents:\r\n  - ${component}\r\n`,
    },
    'keeps a missing final line end': {
      before: 'resources:\n  - a',
      edit: addComponent,
      after: `resources:\n  - a\ncomponents:\n  - ${component}`,
    },
    'finds quoted keys': {
      before: '"components":\n  - a\n',
      edit: addComponent,
      after: `"components":\n  - a\n  - ${component}\n`,
    },
    'chooses the document by kind, name and namespace': {
      before:
        'kind: Kustomization\nmetadata: {name: a}\nspec: {prune: true}\n---\n# two\nkind: Kustomization\nmetadata:\n  name: b\n  namespace: flux-system\nspec: {prune: true}\n---\nkind: Secret\nmetadata: {name: b}\n',
      edit: {
        kind: 'set',
        document: { kind: 'Kustomization', name: 'b', namespace: 'flux-system' },
        at: ['spec', 'prune'],
        value: false,
      },
      after:
        'kind: Kustomization\nmetadata: {name: a}\nspec: {prune: true}\n---\n# two\nkind: Kustomization\nmetadata:\n  name: b\n  namespace: flux-system\nspec: {prune: false}\n---\nkind: Secret\nmetadata: {name: b}\n',
    },
    'removes a key with its line': {
      before:
        'values:\n  pilot:\n    env:\n      A: "1"\n      # keep me\n      ISTIO_MULTIROOT_MESH: "true" # here\n      B: "2"\n',
      edit: remove(['values', 'pilot', 'env', 'ISTIO_MULTIROOT_MESH']),
      after: 'values:\n  pilot:\n    env:\n      A: "1"\n      # keep me\n      B: "2"\n',
    },
    'leaves an empty map where the only key goes': {
      before: 'values:\n  pilot:\n    env: # flags\n      ISTIO_MULTIROOT_MESH: "true"\n  b: 1\n',
      edit: remove(['values', 'pilot', 'env', 'ISTIO_MULTIROOT_MESH']),
      after: 'values:\n  pilot:\n    env: {} # flags\n  b: 1\n',
    },
    'removes from a map on one line': {
      before: 'a: {x: 1, y: 2, z: 3}\n',
      edit: remove(['a', 'y']),
      after: 'a: {x: 1, z: 3}\n',
    },
    'removes the last of a map on one line': {
      before: 'a: {x: 1, y: 2}\n',
      edit: remove(['a', 'y']),
      after: 'a: {x: 1}\n',
    },
    'removes a whole block': {
      before: 'spec:\n  source:\n    chart: istiod\n    helm:\n      values: |\n        a: b\n\n  project: p\n',
      edit: remove(['spec', 'source']),
      after: 'spec:\n\n  project: p\n',
    },
    'moves a map into a list beside it, with its comments and block scalars': {
      before:
        'spec:\n  source: # the chart\n    # pinned by hand\n    repoURL: https://a # mirror\n    helm:\n      values: |\n        # inner\n        a: b\n\n        c: d\n      # more\n      x: 1\n  # end\n  project: p\n',
      edit: intoList(['spec', 'source'], 'sources'),
      after:
        'spec:\n  sources: # the chart\n    # pinned by hand\n    - repoURL: https://a # mirror\n      helm:\n        values: |\n          # inner\n          a: b\n\n          c: d\n        # more\n        x: 1\n  # end\n  project: p\n',
    },
    'moves a map on one line into a list': {
      before: 'spec: {source: {repoURL: a, chart: istiod}, project: p} # x\n',
      edit: intoList(['spec', 'source'], 'sources'),
      after: 'spec: {sources: [{repoURL: a, chart: istiod}], project: p} # x\n',
    },
    'moves the last map of a file without a final line end': {
      before: 'spec:\n    source:\n        a: 1\n        b: 2',
      edit: intoList(['spec', 'source'], 'sources'),
      after: 'spec:\n    sources:\n        - a: 1\n          b: 2',
    },
    'adds to a list inside the first item of a list': {
      before: 'spec:\n  sources:\n    - chart: istiod\n      helm:\n        valueFiles: [a.yaml]\n    - ref: v\n',
      edit: item(['spec', 'sources', '0', 'helm', 'valueFiles'], '$v/b.yaml'),
      after:
        'spec:\n  sources:\n    - chart: istiod\n      helm:\n        valueFiles: [a.yaml, $v/b.yaml]\n    - ref: v\n',
    },
    'gives the first item of a list a key': {
      before: 'spec:\n  sources:\n    - chart: istiod # c\n      targetRevision: 1.29.0\n    - ref: v\n',
      edit: item(['spec', 'sources', '0', 'helm', 'valueFiles'], '$v/b.yaml'),
      after:
        'spec:\n  sources:\n    - chart: istiod # c\n      targetRevision: 1.29.0\n      helm:\n        valueFiles:\n          - $v/b.yaml\n    - ref: v\n',
    },
    'takes one item out of a list, with its block scalar; comments of the others stay': {
      before:
        'helm:\n  parameters:\n  # which chart\n  - name: a # first\n    value: x\n  - name: pem\n    value: |\n      one\n\n      two\n  # of the mesh\n  - name: b\n    value: y\n',
      edit: drop(['helm', 'parameters'], 'pem'),
      after:
        'helm:\n  parameters:\n  # which chart\n  - name: a # first\n    value: x\n  # of the mesh\n  - name: b\n    value: y\n',
    },
    'takes the last item out of a list on one line': {
      before: 'helm: {parameters: [{name: a, value: x}, {name: pem, value: y}]} # z\n',
      edit: drop(['helm', 'parameters'], 'pem'),
      after: 'helm: {parameters: [{name: a, value: x}]} # z\n',
    },
    'leaves an empty list where the only item goes': {
      before: 'helm:\n  parameters:\n    - {name: pem, value: y}\n  x: 1\n',
      edit: drop(['helm', 'parameters'], 'pem'),
      after: 'helm:\n  parameters:\n    []\n  x: 1\n',
    },
    'leaves anchors elsewhere alone': {
      before: 'x: &a {b: 1}\ny: *a\nresources: []\n',
      edit: addComponent,
      after: `x: &a {b: 1}\ny: *a\nresources: []\ncomponents:\n  - ${component}\n`,
    },
    'quotes what would not be read as text': {
      before: 'a:\n  b: c\n',
      edit: set(['a', 'PROXY_CONFIG_XDS_AGENT'], 'true'),
      after: 'a:\n  b: c\n  PROXY_CONFIG_XDS_AGENT: "true"\n',
    },
  }

describe('edits touch only what they must', () => {
  for (const [name, { before, edit, after }] of Object.entries(cases)) {
    test(name, () => {
      expect(wiringHolds(before, edit, 'f.yaml').holds).toBe(false)
      expect(applyWiring(before, edit, 'f.yaml')).toEqual({ text: after, changed: true })
      expect(wiringHolds(after, edit, 'f.yaml')).toEqual({ holds: true })
      expect(applyWiring(after, edit, 'f.yaml')).toEqual({ text: after, changed: false })
    })
  }
})

const refusals: Readonly<
  Record<string, { readonly before: string; readonly edit: WiringEdit; readonly found: RegExp }>
> = {
  'a line end that belongs to the text above': {
    before: 'a: |+\n  text\n\nb: 1',
    edit: remove(['b']),
    found: /reach further/,
  },
  'an alias on the way': {
    before: 'x: &a {prune: true}\nspec: *a\n',
    edit: set(['spec', 'prune'], false),
    found: /alias \*a/,
  },
  'an anchor that is used elsewhere': {
    before: 'spec: &a\n  prune: true\nother: *a\n',
    edit: set(['spec', 'prune'], false),
    found: /anchor &a/,
  },
  'a key that is merged in, to be removed': {
    before: 'x: &a {k: 1}\nspec:\n  <<: *a\n  y: 2\n',
    edit: remove(['spec', 'k']),
    found: /merged/,
  },
  'a map to be moved into a list that is there already': {
    before: 'spec:\n  source: {a: 1}\n  sources: []\n',
    edit: intoList(['spec', 'source'], 'sources'),
    found: /beside it/,
  },
  'a map to be moved that is not there': {
    before: 'spec: {}\n',
    edit: intoList(['spec', 'source'], 'sources'),
    found: /no map/,
  },
  'a scalar where a list should be': { before: 'components: one\n', edit: addComponent, found: /no list/ },
  'a scalar where a map should be': { before: 'spec: text\n', edit: set(['spec', 'prune'], false), found: /no map/ },
}

describe('refuses, with the lines to add by hand', () => {
  for (const [name, { before, edit, found }] of Object.entries(refusals)) {
    test(name, () => {
      const error = failure(() => applyWiring(before, edit, 'clusters/eu-1/f.yaml'))
      expect(error.where.file).toBe('clusters/eu-1/f.yaml')
      expect(error.found).toMatch(found)
      expect(error.todo).toMatch(/by hand/)
      if (edit.kind === 'set' || edit.kind === 'listItem') expect(error.example).toBeTypeOf('string')
    })
  }

  test('a document that is not there, or there twice', () => {
    const edit: WiringEdit = {
      kind: 'set',
      document: { kind: 'Kustomization', name: 'x', namespace: 'n' },
      at: ['spec', 'prune'],
      value: false,
    }
    expect(failure(() => applyWiring('kind: Secret\nmetadata: {name: x}\n', edit, 'f')).found).toBe(
      'no Kustomization n/x',
    )
    const twice =
      'kind: Kustomization\nmetadata: {name: x}\n---\nkind: Kustomization\nmetadata: {name: x, namespace: n}\n'
    expect(failure(() => applyWiring(twice, edit, 'f')).found).toMatch(/2 times/)
    expect(wiringHolds(twice, edit, 'f')).toEqual({ holds: false, found: '2 times Kustomization n/x' })
  })

  test('a file that is gone, or no YAML', () => {
    expect(failure(() => applyWiring(null, addComponent, 'f')).found).toBe('no file')
    expect(failure(() => applyWiring('a: [\n', addComponent, 'f')).where.line).toBeGreaterThan(0)
    expect(wiringHolds(null, addComponent, 'f')).toEqual({ holds: false, found: 'no such file' })
  })
})

describe('files that adopt creates', () => {
  const content =
    'apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: trust\nspec:\n  interval: 10m\n  prune: false\n'
  const edit: WiringEdit = { kind: 'create', content }

  test('are written whole, once', () => {
    expect(applyWiring(null, edit, 'f')).toEqual({ text: content, changed: true })
    expect(applyWiring(content, edit, 'f')).toEqual({ text: content, changed: false })
  })
  test('hold when fields were added or the interval changed, not when a value did', () => {
    expect(wiringHolds(content.replace('10m', '1m').replace('prune', 'force: true\n  prune'), edit, 'f')).toEqual({
      holds: true,
    })
    expect(wiringHolds(content.replace('false', 'true'), edit, 'f')).toEqual({
      holds: false,
      found: 'spec.prune: true',
    })
  })
  test('of an Application hold where it was given another source beside ours, and not where ours is gone', () => {
    const source = '{repoURL: https://git.example.com/fleet.git, targetRevision: main, path: trust/eu-1}'
    const hook = '{repoURL: https://git.example.com/fleet.git, targetRevision: main, path: gates/eu-1}'
    const application = (spec: string): string =>
      `apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: trust}\nspec: {project: default, ${spec}}\n`
    const ours: WiringEdit = { kind: 'create', content: application(`source: ${source}`) }
    expect(wiringHolds(application(`sources: [${source}, ${hook}]`), ours, 'f')).toEqual({ holds: true })
    // Argo CD reads no `source` where there are `sources`.
    for (const spec of [`sources: [${hook}]`, `source: ${source}, sources: [${hook}]`])
      expect(wiringHolds(application(spec), ours, 'f')).toEqual({ holds: false, found: 'spec.source: absent' })
  })
  test('never replace another content', () => {
    expect(failure(() => applyWiring('kind: Other\nmetadata: {name: trust}\n', edit, 'f')).example).toBe(content)
  })
})

test('a folder’s name with a slash behind is the same item', () => {
  expect(wiringHolds(`components: [./${component}/]\n`, addComponent, 'f')).toEqual({ holds: true })
})

// ------------------------------------------------------------------------------------------------- properties

const key = fc.constantFrom('a', 'b', 'spec', 'values', 'x/y', 'on', '1')
const scalar = fc.constantFrom<unknown>(
  'one',
  'true',
  true,
  12,
  '',
  'a: b',
  null,
  'two\nlines\n',
  '# no comment',
  'no end\n\n',
  '012',
)
const { tree } = fc.letrec(tie => ({
  tree: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    scalar,
    fc.array(tie('tree'), { maxLength: 3 }),
    fc.dictionary(key, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
  ),
}))
const root = fc.dictionary(key, tree, { minKeys: 1, maxKeys: 4, noNullPrototype: true })

interface Style {
  readonly indent: number
  readonly indentSeq: boolean
  readonly crlf: boolean
  readonly noFinalLineEnd: boolean
  readonly collectionStyle: 'block' | 'any' | 'flow'
  readonly comments: readonly number[]
  readonly before: boolean
  readonly behind: boolean
}

const style: fc.Arbitrary<Style> = fc.record({
  indent: fc.constantFrom(2, 3, 4),
  indentSeq: fc.boolean(),
  crlf: fc.boolean(),
  noFinalLineEnd: fc.boolean(),
  collectionStyle: fc.constantFrom('block', 'any', 'flow'),
  comments: fc.array(fc.nat(30), { maxLength: 3 }),
  before: fc.boolean(),
  behind: fc.boolean(),
})

function written(
  value: object,
  { indent, indentSeq, crlf, noFinalLineEnd, collectionStyle, comments, before, behind }: Style,
): string {
  let text = stringify(
    { kind: 'Wired', metadata: { name: 'me' }, ...value },
    { indent, indentSeq, collectionStyle, lineWidth: 0 },
  )
  if (!/[|>][-+]?\n/.test(text)) {
    // Comments between and behind lines, where no block scalar could take them for text.
    const lines = text.split('\n')
    for (const at of comments) {
      const line = at % lines.length
      if (line < lines.length - 1 && !/["']/.test(lines[line] ?? ''))
        lines[line] = at % 2 === 0 ? `${lines[line]} # c${at}` : `# c${at}\n${lines[line]}`
    }
    text = lines.join('\n')
  }
  text = `${before ? '# head\nkind: Other\n---\n' : ''}${text}`
  if (behind) text = `${text}${text.endsWith('\n') ? '' : '\n'}---\nkind: Last # tail\n`
  if (noFinalLineEnd) text = text.replace(/\n$/, '')
  return crlf ? text.replaceAll('\n', '\r\n') : text
}

function pathsOf(value: unknown, at: readonly string[] = []): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [at]
  return [at, ...Object.entries(value).flatMap(([name, inner]) => pathsOf(inner, [...at, name]))]
}

function documentsOf(text: string): unknown[] {
  return parseAllDocuments(text).map(document => document.toJS())
}

const edits = fc.record({
  kind: fc.constantFrom('set', 'listItem', 'remove', 'intoList'),
  pick: fc.nat(),
  deeper: fc.array(key, { maxLength: 2 }),
  value: tree,
  item: fc.oneof(fc.constant(component), fc.constant({ kind: 'ConfigMap', name: 'x' })),
})

test('in any style, an edit changes one value, leaves all other lines byte for byte, and holds afterwards', () => {
  let made = 0
  let refused = 0
  fc.assert(
    fc.property(root, style, edits, (value, how, choice) => {
      const text = written(value, how)
      const document = { kind: 'Wired', name: 'me', namespace: null }
      const paths = pathsOf(value).filter(path => path.length > 0)
      const base = paths[choice.pick % paths.length] ?? []
      const isMap =
        typeof valueAt(value, base) === 'object' &&
        valueAt(value, base) !== null &&
        !Array.isArray(valueAt(value, base))
      const moves = choice.kind === 'remove' || choice.kind === 'intoList'
      const at = moves || !isMap ? base : [...base, ...choice.deeper]
      const edit: WiringEdit =
        choice.kind === 'set'
          ? { kind: 'set', document, at, value: choice.value ?? 'text' }
          : choice.kind === 'listItem'
            ? { kind: 'listItem', document, at, value: choice.item }
            : choice.kind === 'remove' || !isMap
              ? { kind: 'remove', document, at }
              : { kind: 'intoList', document, at, to: 'moved' }
      let result: { text: string; changed: boolean }
      try {
        result = applyWiring(text, edit, 'f.yaml')
      } catch (error) {
        if (!(error instanceof ReanchorError)) throw error
        // A map can be made a list's item, and nothing else: that kind refuses most of what it is offered here, and is not counted.
        if (edit.kind !== 'intoList') refused++
        return
      }
      if (edit.kind !== 'intoList') made++
      const index = how.before ? 1 : 0
      const expected = documentsOf(text)
      expected[index] = changed(expected[index], edit)
      expect(documentsOf(result.text)).toEqual(expected)
      expect(wiringHolds(result.text, edit, 'f.yaml')).toEqual({ holds: true })
      expect(applyWiring(result.text, edit, 'f.yaml')).toEqual({ text: result.text, changed: false })
      // A file without a final line end keeps that, which concerns the line above too.
      expectOneChange(text, result.text, linesOf(text, index, at) + (how.noFinalLineEnd ? 1 : 0) + how.comments.length)
    }),
    { numRuns: 1500 },
  )
  // Refusals are for scalars in the way and the like; they must not become the way out of everything.
  expect(refused).toBeLessThan(made / 2)
})

function valueAt(value: unknown, at: readonly string[]): unknown {
  return at.reduce<unknown>((here, name) => (here as Record<string, unknown>)[name], value)
}

function changed(value: unknown, edit: Exclude<WiringEdit, { kind: 'create' }>): unknown {
  const copy = { root: structuredClone(value) } as Record<string, unknown>
  let holder = copy
  let last = 'root'
  for (const name of edit.at) {
    const inner = holder[last]
    if (typeof inner !== 'object' || inner === null) holder[last] = {}
    holder = holder[last] as Record<string, unknown>
    last = name
  }
  const old = holder[last]
  if (edit.kind === 'intoList') {
    delete holder[last]
    holder[edit.to] = [old]
  } else if (edit.kind === 'set') holder[last] = edit.value
  else if (edit.kind === 'remove') delete holder[last]
  else if (!Array.isArray(old)) holder[last] = [edit.value]
  else if (!old.some(each => JSON.stringify(each) === JSON.stringify(edit.value))) holder[last] = [...old, edit.value]
  return copy.root
}

/** How many lines the value at a path takes up, that of its key and comments between included; 1 where it is absent. */
function linesOf(text: string, index: number, at: readonly string[]): number {
  const document = parseAllDocuments(text)[index]
  const node = document?.getIn(at, true) as { range?: [number, number, number] } | undefined
  const range = node?.range
  if (range === undefined) return 1
  const parent = document?.getIn(at.slice(0, -1), true) as
    | { items?: { key?: { value: unknown; range: [number, number, number] } }[] }
    | undefined
  const start =
    parent?.items?.find(({ key }) => key !== undefined && String(key.value) === at.at(-1))?.key?.range[0] ?? range[0]
  return text.slice(start, range[1]).split('\n').length + 1
}

/** All lines before and behind one run of lines are the same bytes, and that run is no longer than what the edit is about. */
function expectOneChange(before: string, after: string, allowed: number): void {
  const old = before.split(/(?<=\n)/)
  const now = after.split(/(?<=\n)/)
  let head = 0
  while (head < old.length && head < now.length && old[head] === now[head]) head++
  let tail = 0
  while (tail < old.length - head && tail < now.length - head && old.at(-1 - tail) === now.at(-1 - tail)) tail++
  expect(old.length - head - tail).toBeLessThanOrEqual(allowed)
  if (before.includes('\r\n')) expect(after.replaceAll('\r\n', '')).not.toContain('\n')
  expect(after.endsWith('\n')).toBe(before.endsWith('\n'))
}

function failure(run: () => unknown): ReanchorError {
  try {
    run()
  } catch (error) {
    if (error instanceof ReanchorError) return error
    throw error
  }
  throw new Error('nothing was refused')
}
