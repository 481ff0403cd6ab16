/** The ways in which others run it: each is run here as far as a machine without their platform can. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { runnerOutput } from '../../phases/fixtures/runner.ts'
import { gateSource } from '../../phases/runner/index.ts'
import { called } from '../cli/program.ts'
import { bareRepository, cloneOf, opened, temporaryFolder, userGit } from '../repository/temporary.ts'
import { plannedWorld, rotation } from '../scenarios/world.ts'

const project = resolve(import.meta.dirname, '../..')
const read = (path: string) => readFileSync(join(project, path), 'utf8')
const systems = ['istio', 'linkerd', 'kyma', 'cassandra'] as const
const output = runnerOutput()

interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly verbs: readonly string[]
}
interface Manifest {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly annotations?: unknown }
  readonly rules?: readonly Rule[]
  // biome-ignore lint/suspicious/noExplicitAny: manifests of many kinds
  readonly spec?: any
}

function documents(text: string): readonly Manifest[] {
  return parseAllDocuments(text).map(document => document.toJS() as Manifest)
}

describe.each(systems)('the CronJob for %s', system => {
  const all = documents(output.get(`runner/${system}.yaml`) ?? '')
  const job = all.find(({ kind }) => kind === 'CronJob')
  const pod = job?.spec.jobTemplate.spec.template.spec

  test('has exactly the rights that roles/ grants, and none to change anything', () => {
    const roles = [`roles/${system}.yaml`, `roles/${system}-portforward.yaml`].flatMap(file => documents(read(file)))
    expect(all.filter(({ kind }) => kind !== 'CronJob')).toEqual(roles)
    const verbs = all
      .flatMap(({ rules = [] }) => rules)
      .flatMap(({ verbs: each, resources }) => each.map(verb => `${verb} ${resources.join()}`))
    for (const verb of verbs) expect(verb).toMatch(/^(get|list) |^create pods\/portforward$/)
  })

  test('runs as an account of that file, one at a time, confined as Pod Security `restricted` asks', () => {
    expect(all.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name)).toContain(
      pod.serviceAccountName,
    )
    expect(job?.metadata.namespace).toBe('reanchor')
    expect(job?.spec).toMatchObject({ concurrencyPolicy: 'Forbid', jobTemplate: { spec: { backoffLimit: 0 } } })
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true })
    for (const container of [...pod.containers, ...pod.initContainers])
      expect(container.securityContext).toMatchObject({
        allowPrivilegeEscalation: false,
        runAsNonRoot: true,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
        seccompProfile: { type: 'RuntimeDefault' },
      })
  })

  test('starts the program itself, so that it gets SIGTERM, with options that it has, and no secret in the environment', async () => {
    const [container] = pod.containers
    expect(container.command).toEqual(['reanchor'])
    const words = container.args as string[]
    expect((await called(...words, '--help')).exit).toBe(0)
    expect(words).toEqual(expect.arrayContaining(['run', '--once', '--waiting-ok']))
    for (const { valueFrom } of container.env) expect(valueFrom).toBeUndefined()
  })
})

describe.each(systems)('the verifier of a cluster that no runner reaches, for %s', system => {
  const all = documents(output.get(`runner/verifier/${system}.yaml`) ?? '')
  const job = all.find(({ kind }) => kind === 'CronJob')
  const pod = job?.spec.jobTemplate.spec.template.spec

  test('has the reads of roles/ and nothing more', () => {
    const roles = [`roles/${system}.yaml`, `roles/${system}-portforward.yaml`].flatMap(file => documents(read(file)))
    expect(all.filter(({ kind }) => kind !== 'CronJob')).toEqual(roles)
    expect(pod.serviceAccountName).toBe('reanchor-verifier')
  })

  test('observes its site, with options that exist, and signs with a key from a file', async () => {
    const [container] = pod.containers
    const words = container.args as string[]
    expect(words.slice(0, 4)).toEqual(['observe', '--site', 'eu-1', '--waiting-ok'])
    expect((await called(...words, '--help')).exit).toBe(0)
    expect(container.env).toContainEqual({
      name: 'REANCHOR_SIGNING_KEY_FILE',
      value: '/var/run/reanchor/signing/key',
    })
    expect(job?.spec).toMatchObject({ schedule: '*/5 * * * *', concurrencyPolicy: 'Forbid' })
  })
})

describe.each(['flux', 'argocd'] as const)('the Job that a delivery by %s waits for', delivery => {
  const file = delivery === 'flux' ? 'job.yaml' : 'templates/job.yaml'
  const job = documents(output.get(`runner/gate-${delivery}/${file}`) ?? '')[0]
  const pod = job?.spec.template.spec

  test('waits with options that exist, and is ended by Kubernetes only after the command has given up', async () => {
    const words = pod.containers[0].args as string[]
    expect((await called(...words, '--help')).exit).toBe(0)
    expect(words.includes('--hook')).toBe(delivery === 'argocd')
    const hours = Number(/^(\d+)h$/.exec(words[words.indexOf('--timeout') + 1] ?? '')?.[1])
    expect(job?.spec.activeDeadlineSeconds).toBeGreaterThan(hours * 3600)
  })

  test('fails at once where trying again is no use, and not where its node goes', () => {
    expect(pod.restartPolicy).toBe('Never')
    const rules = job?.spec.podFailurePolicy.rules
    expect(rules).toHaveLength(2)
    expect(rules[0]).toMatchObject({ action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget' }] })
    expect(rules[1]).toMatchObject({
      action: 'FailJob',
      onExitCodes: { containerName: pod.containers[0].name, operator: 'In', values: [2, 3, 5] },
    })
  })
})

test('Flux: the gate depends on what delivers the folder, waits, and may replace its Job', () => {
  const [gate] = documents(output.get('runner/gate-flux.yaml') ?? '')
  expect(gate?.spec).toMatchObject({ dependsOn: [{ name: 'trust' }], wait: true, force: true, prune: true })
})

test('Argo CD: the Job is a hook after the sync, made anew by each', () => {
  const [job] = documents(output.get('runner/gate-argocd/templates/job.yaml') ?? '')
  expect(job?.metadata.annotations).toEqual({
    'argocd.argoproj.io/hook': 'PostSync',
    'argocd.argoproj.io/hook-delete-policy': 'BeforeHookCreation',
  })
})

test('Argo CD: every step changes an object of the gate, or a step that only restarts what others deliver would run no sync and no hook', () => {
  const template = output.get('runner/gate-argocd/templates/step.yaml') ?? ''
  const value = /trust\.txt: \{\{ required "[^"]*" \.Values\.(\w+) \| quote \}\}/.exec(template)?.[1]
  const source = gateSource({ repoURL: 'https://x', targetRevision: 'main' }, 'gates/eu-1', '../../trust/eu-1')
  expect(source.helm.fileParameters).toEqual([{ name: value, path: '../../trust/eu-1/trust.txt' }])
})

describe('what starts the runner sooner', () => {
  test('Flux: a merge makes it look at Git, and what it applied sends an event for the same Kustomization', () => {
    const [receiver, provider, alert] = documents(output.get('runner/flux-trigger.yaml') ?? '')
    expect(receiver?.spec.resources.map(({ kind, name }: { kind: string; name: string }) => `${kind}/${name}`)).toEqual(
      ['GitRepository/flux-system', 'Kustomization/trust'],
    )
    expect(provider?.spec).toMatchObject({ type: 'githubdispatch', address: 'https://github.com/acme/fleet' })
    expect(alert?.spec).toMatchObject({
      providerRef: { name: provider?.metadata.name },
      eventSources: [{ kind: 'Kustomization', name: 'trust' }],
    })
  })

  test('Argo CD: service, template and trigger name each other, and are YAML themselves', () => {
    const [config] = documents(output.get('runner/argocd-trigger.yaml') ?? '') as unknown as {
      data: Record<string, string>
    }[]
    const service = parse(config?.data['service.webhook.reanchor'] ?? '') as { headers: { value: string }[] }
    expect(service.headers[0]?.value).toBe('Bearer $reanchor-dispatch-token')
    const template = parse(config?.data['template.reanchor-applied'] ?? '') as {
      webhook: { reanchor: { path: string; body: string } }
    }
    expect(template.webhook.reanchor.path).toBe('/repos/acme/fleet/dispatches')
    expect(JSON.parse(template.webhook.reanchor.body)).toMatchObject({ event_type: 'reanchor-applied' })
    const [trigger] = parse(config?.data['trigger.reanchor-applied'] ?? '') as { send: string[] }[]
    expect(trigger?.send).toEqual(['reanchor-applied'])
  })
})

describe('what git asks for', () => {
  test('comes from files', () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'token'), 'secret')
    const ask = (prompt: string) =>
      spawnSync('sh', ['action/askpass.sh', prompt], {
        cwd: project,
        encoding: 'utf8',
        env: { PATH: process.env.PATH, REANCHOR_GIT_CREDENTIALS: folder },
      }).stdout.trim()
    expect(ask("Username for 'https://git.example.com': ")).toBe('git')
    expect(ask("Password for 'https://git@git.example.com': ")).toBe('secret')
    writeFileSync(join(folder, 'username'), 'bot')
    expect(ask("Username for 'https://git.example.com': ")).toBe('bot')
  })
})

test('where git finds credentials reaches it through reanchor, and no other variable does', async () => {
  const folder = temporaryFolder()
  const clone = cloneOf(await bareRepository())
  userGit(clone, 'remote', 'set-url', 'origin', 'ssh://git@git.example.com/fleet.git')
  const told = join(folder, 'told')
  const given = {
    GIT_SSH_COMMAND: `sh -c 'echo "$REANCHOR_GIT_CREDENTIALS/$REANCHOR_GIT_TOKEN" > ${told}; exit 1'`,
    REANCHOR_GIT_CREDENTIALS: '/where/they/are',
    REANCHOR_GIT_TOKEN: 'a-token-that-git-does-not-need',
  }
  const before = Object.keys(given).map(name => [name, process.env[name]] as const)
  Object.assign(process.env, given)
  try {
    const repository = await opened(clone, { remote: 'origin' })
    await expect(repository.fetch()).rejects.toMatchObject({ transient: true })
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  expect(readFileSync(told, 'utf8')).toBe('/where/they/are/\n')
})

test('the Dockerfile copies what is there', () => {
  const sources = [...read('Dockerfile').matchAll(/^COPY (?!--from)(?:--chmod=\d+ )?(.+) \S+$/gm)].flatMap(
    ([, words = '']) => words.split(' '),
  )
  expect(sources.length).toBeGreaterThan(5)
  for (const source of sources) expect(existsSync(join(project, source)), source).toBe(true)
})

// ------------------------------------------------------------------------------------------------------- GitHub

interface Step {
  readonly run?: string
  readonly shell?: string
  readonly env?: Record<string, string>
}

const action = parse(read('action.yml')) as {
  inputs: Record<string, unknown>
  outputs: Record<string, { value: string }>
  runs: { steps: Step[] }
}

/** Runs the step as the platform would, with these inputs. */
function acted(clone: string, inputs: Readonly<Record<string, string>>) {
  const folder = mkdtempSync(join(tmpdir(), 'reanchor-action-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const [outputs, summary] = ['outputs', 'summary.md'].map(name => join(folder, name)) as [string, string]
  for (const file of [outputs, summary]) writeFileSync(file, '')
  const { env = {}, run = '' } = action.runs.steps.at(-1) ?? {}
  const given = Object.fromEntries(
    Object.entries(env).map(([name, value]) => [
      name,
      value
        .replace(/\$\{\{ inputs\.([a-z-]+) \}\}/, (_, input: string) => inputs[input] ?? '')
        .replace(/\$\{\{.*\}\}/, 'main'),
    ]),
  )
  const done = spawnSync('bash', ['-eo', 'pipefail', '-c', run], {
    cwd: clone,
    encoding: 'utf8',
    env: {
      PATH: process.env.PATH,
      HOME: folder,
      GIT_CONFIG_GLOBAL: '/dev/null',
      TMPDIR: folder,
      GITHUB_ACTION_PATH: project,
      GITHUB_OUTPUT: outputs,
      GITHUB_STEP_SUMMARY: summary,
      ...given,
    },
  })
  const lines = readFileSync(outputs, 'utf8')
    .split('\n')
    .filter(line => line !== '')
  return {
    exit: done.status,
    said: done.stdout + done.stderr,
    outputs: Object.fromEntries(lines.map(line => line.split('=', 2) as [string, string])),
    summary: readFileSync(summary, 'utf8'),
  }
}

async function clonedWorld() {
  const world = await plannedWorld()
  const clone = join(temporaryFolder(), 'clone')
  userGit(world.folder, 'clone', '-q', world.bare, clone)
  return { world, clone }
}

describe('the GitHub Action', () => {
  test('lets no input into the text of a script', () => {
    for (const { run = '' } of action.runs.steps) expect(run).not.toContain('${{')
    const read = JSON.stringify(action.runs.steps)
    for (const input of Object.keys(action.inputs)) expect(read, input).toContain(`inputs.${input} `)
    for (const { value } of Object.values(action.outputs))
      expect(value).toMatch(/^\$\{\{ steps\.command\.outputs\.[a-z-]+ \}\}$/)
  })

  test('opens the next pull request, waits without failing, and leaves a summary and a page', async () => {
    const { clone } = await clonedWorld()
    const first = acted(clone, { command: 'run', repository: '.', report: 'page.html' })
    expect(first, first.said).toMatchObject({ exit: 0, outputs: { exit: '0', outcome: 'opened', 'pull-request': '2' } })
    expect(first.summary).toContain(`${rotation} (graceful)`)
    expect(readFileSync(join(clone, 'page.html'), 'utf8')).toMatch(/^<!doctype html>/)
    const second = acted(clone, { command: 'run', repository: '.' })
    expect(second, second.said).toMatchObject({ exit: 0, outputs: { exit: '3', outcome: 'open', 'pull-request': '2' } })
  })

  test('fails where a change is not safe, with an annotation, and not where it is', async () => {
    const { clone, world } = await clonedWorld()
    writeFileSync(join(clone, 'note.txt'), 'nothing\n')
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-qm', 'nothing')
    expect(acted(clone, { command: 'check', repository: '.' })).toMatchObject({ exit: 0, outputs: { exit: '0' } })
    const key =
      '-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq\n-----END PRIVATE KEY-----\n'
    writeFileSync(join(clone, 'key.pem'), key)
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-qm', 'a key')
    const bad = acted(clone, { command: 'check', repository: '.' })
    expect(bad, bad.said).toMatchObject({ exit: 5, outputs: { exit: '5' } })
    expect(bad.said).toMatch(/^::error/m)
    expect(bad.said + bad.summary).not.toContain('MC4CAQAw')
    expect(world.bare).not.toBe(clone)
  })

  test.each(['$(touch taken)', '`touch taken`', '"; touch taken; "', '--output=json'])(
    'takes %j for a name and nothing else',
    async name => {
      const { clone } = await clonedWorld()
      const done = acted(clone, { command: 'run', repository: '.', rotation: name })
      expect(done.exit).not.toBe(null)
      expect(existsSync(join(clone, 'taken'))).toBe(false)
      expect(acted(clone, { command: name, repository: '.' })).toMatchObject({ exit: 2 })
      expect(existsSync(join(clone, 'taken'))).toBe(false)
    },
  )
})

// ------------------------------------------------------------------------------------------------------- GitLab

interface Job {
  readonly script: readonly string[]
  readonly before_script?: readonly string[]
  readonly after_script?: readonly string[]
  readonly rules: readonly { readonly if: string }[]
  readonly variables: Record<string, string>
  readonly resource_group?: string
}

const shims = mkdtempSync(join(tmpdir(), 'reanchor-shims-'))
afterAll(() => rmSync(shims, { recursive: true, force: true }))
mkdirSync(shims, { recursive: true })
writeFileSync(
  join(shims, 'reanchor'),
  `#!/bin/sh\nexec "${process.execPath}" "${project}/dist/src/cli/main.js" "$@"\n`,
  { mode: 0o755 },
)

function component(inputs: Readonly<Record<string, string>>): Record<string, Job> {
  const [spec, jobs] = read('templates/reanchor/template.yml').split('\n---\n') as [string, string]
  const { inputs: declared } = (parse(spec) as { spec: { inputs: Record<string, { default?: unknown }> } }).spec
  const text = jobs.replace(/\$\[\[ inputs\.(\w+) \]\]/g, (_, name: string) => {
    if (declared[name] === undefined) throw new Error(`no input ${name}`)
    return inputs[name] ?? String(declared[name].default ?? '')
  })
  return parse(text) as Record<string, Job>
}

function piped(lines: readonly string[], cwd: string, env: Readonly<Record<string, string>>) {
  const done = spawnSync('bash', ['-eo', 'pipefail', '-c', lines.join('\n')], {
    cwd,
    encoding: 'utf8',
    env: { PATH: `${shims}:${process.env.PATH}`, HOME: cwd, GIT_CONFIG_GLOBAL: '/dev/null', ...env },
  })
  return { exit: done.status, said: done.stdout + done.stderr }
}

describe('the GitLab component', () => {
  test('has one job for merge requests and one for schedules, which wait for each other', () => {
    const jobs = component({ image: 'reanchor:1' })
    expect(Object.keys(jobs)).toEqual(['reanchor check', 'reanchor run'])
    expect(jobs['reanchor check']?.rules[0]?.if).toContain('merge_request_event')
    expect(jobs['reanchor run']?.rules[0]?.if).toContain('schedule')
    expect(jobs['reanchor run']?.resource_group).toBe('reanchor')
  })

  test('goes through the rotations with a token that stands in no address, and makes the page', async () => {
    const { clone, world } = await clonedWorld()
    const job = component({ image: 'reanchor:1', rotation })['reanchor run']
    // A path takes the place of the project's address, which this machine does not reach.
    const base = join(temporaryFolder(), 'project')
    userGit(world.folder, 'clone', '-q', '--bare', world.bare, `${base}.git`)
    const env = { ROTATION: rotation, REANCHOR_GIT_TOKEN: 'glpat-0123456789', CI_PROJECT_URL: base }
    const run = piped([...(job?.before_script ?? []), ...(job?.script ?? [])], clone, env)
    expect(run.exit, run.said).toBe(0)
    expect(run.said).toContain('opened pull request')
    expect(run.said).not.toContain('glpat-')
    expect(userGit(clone, 'remote', 'get-url', 'origin')).toBe(`${base}.git`)
    expect(piped(job?.after_script ?? [], clone, env).exit).toBe(0)
    expect(existsSync(join(clone, 'reanchor.html'))).toBe(true)
    expect(piped(job?.script ?? [], clone, env).exit).toBe(0)
  })

  test('checks a merge request against its target', async () => {
    const { clone } = await clonedWorld()
    const job = component({ image: 'reanchor:1' })['reanchor check']
    userGit(clone, 'switch', '-qc', 'change')
    writeFileSync(join(clone, 'note.txt'), 'nothing\n')
    userGit(clone, 'add', '.')
    userGit(clone, 'commit', '-qm', 'nothing')
    const done = piped(job?.script ?? [], clone, { CI_MERGE_REQUEST_TARGET_BRANCH_NAME: 'main' })
    expect(done.exit, done.said).toBe(0)
    expect(done.said).toContain('no change of trust')
  })
})
