import { Command, CommanderError, Option } from 'commander'
import { type ExitCode, exitCodes } from '../errors.ts'
import { type CommonOptions, type OutputFormat, outputFormats } from './options.ts'
import { type CommandResult, printError, printResult, systemTerminal, type Terminal, withoutSecrets } from './output.ts'
import { packageVersion } from './version.ts'

type Handler = (options: never, terminal: Terminal, words: readonly string[]) => Promise<CommandResult>

const exits = `
Exit codes: 0 done, or all gates hold · 1 internal error · 2 bad usage or input · 3 waiting (a gate is pending, a pull
request is not merged) · 4 a gate is violated, evidence is missing, or something expires in the time given ·
5 refused because it is not safe`

/** Parses, calls, prints. Returns the exit code; nothing here decides anything. */
export async function run(words: readonly string[], terminal?: Terminal): Promise<ExitCode> {
  let exit: ExitCode = exitCodes.done
  const program = new Command('reanchor')
    .description('Replace a certificate authority without downtime, one reviewed pull request at a time.')
    .version(packageVersion(), '-V, --version')
    .showHelpAfterError('(add --help for the options)')
    .addHelpText('after', exits)
    .exitOverride()
  if (terminal !== undefined) program.configureOutput({ writeOut: terminal.out, writeErr: terminal.err })

  const add: Add = (parent, name, description, handler, formats = ['text', 'json']) =>
    parent
      .command(name)
      .description(description)
      .addOption(new Option('-o, --output <format>', 'how to print the result').choices(formats).default('text'))
      .option('--rotation <name>', 'which rotation, where there are several')
      .option('--repo <dir>', 'the repository: a clone, or a bare one', '.')
      .option('--base <branch>', 'branch to look for rotations on; the default one unless said otherwise')
      .option('--no-color', 'no colours (NO_COLOR works too)')
      .exitOverride()
      .action(async (...given: unknown[]) => {
        const command = given[given.length - 1] as Command
        const options = command.opts<CommonOptions & Record<string, unknown>>()
        const place = withoutSecrets(terminal ?? systemTerminal({ color: options.color }), process.env)
        const called = commandPath(command)
        try {
          const result = await handler(options as never, place, command.args)
          exit = printResult(place, called, options.output, result)
        } catch (error) {
          exit = printError(place, called, options.output, error)
        }
      })
  await addCommands(program, add)
  try {
    await program.parseAsync(['node', 'reanchor', ...words])
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? exitCodes.done : exitCodes.usage
  }
  return exit
}

function commandPath(command: Command): string {
  const parent = command.parent
  return parent === null || parent.parent === null ? command.name() : `${commandPath(parent)} ${command.name()}`
}

type Add = (
  parent: Command,
  name: string,
  description: string,
  handler: Handler,
  formats?: readonly OutputFormat[],
) => Command

/** Every command, written out in one place. A handler's module loads only when its command runs. */
async function addCommands(program: Command, add: Add): Promise<void> {
  const collect = (value: string, before: readonly string[]) => [...before, value]
  const dryRun = ['--dry-run', 'do everything but write'] as const
  const signingKey = [
    '--signing-key <file>',
    'SSH private key that signs evidence, or FILE.pub of one that an agent holds (also REANCHOR_SIGNING_KEY, …_FILE)',
  ] as const

  add(program, 'init <system>', 'look at the repository and write rotation.yaml', async (options, terminal, words) =>
    (await import('./handlers/init.ts')).initHandler(options, terminal, words),
  )
    .option('--name <name>', 'name of the rotation')
    .option('--site <name=path>', 'a site and the folder that reanchor will own there; repeat for several', collect, [])
    .option(
      '--context <context>',
      'kubeconfig context of the (only) site, or SITE=CONTEXT; repeat for several',
      collect,
      [],
    )
    .option(
      '--delivery <delivery>',
      'flux:NAMESPACE/NAME or argocd:NAMESPACE/NAME, or SITE=…; repeat for several',
      collect,
      [],
    )
    .option('--age <recipient>', 'age recipient that Secrets are sealed to; repeat for several', collect, [])
    .option(
      '--control-plane <file>',
      'file with the Istio resource, HelmRelease or Application, FILE[#NAME] or SITE=…',
      collect,
      [],
    )
    .option('--sealed-secrets <file>', 'PEM file of the SealedSecrets controller’s certificate, instead of SOPS')
    .option('--ksops', 'SOPS under Argo CD, where its repo-server runs KSOPS')
    .option('--repo-url <url>', 'address of this repository, for a new Argo CD Application')
    .option(
      '--forge <forge>',
      'local, none, github:OWNER/NAME, gitlab:PATH, gitea:OWNER/NAME or bitbucket:WORKSPACE/NAME; with https://HOST/ before it on a server of your own',
    )
    .option('--yes', 'ask nothing; take what was found', false)
    .option(...dryRun, false)

  add(
    program,
    'inspect',
    'every trust anchor and issuing CA found, and how long they last',
    async (options, terminal) => (await import('./handlers/inspect.ts')).inspectHandler(options, terminal),
  )
    .option('--within <duration>', 'exit 4 where something expires within this time, such as 60d')
    .option('--start-within <duration>', 'exit 4 where a graceful rotation has to start within this time, such as 14d')
    .option('--quiet', 'print what falls within these times and nothing else', false)
    .option('--file <pem...>', 'look at PEM files instead of clusters')
    .option('--context <context>', 'look at this cluster, where no rotation is declared yet')
    .option('--system <system>', 'with --context: istio, linkerd, kyma or cassandra', 'istio')
    .option('--namespace <namespace>', 'with --context: the control plane’s namespace, where it is not the usual one')
    .option(
      '--setting <field=value>',
      'with --context: a field of spec.<system> of rotation.yaml; repeat for several',
      collect,
      [],
    )

  add(
    program,
    'plan',
    'make or take the new CA, or have cert-manager mint it; render and seal every step, prove it safe, open the plan pull request',
    async (options, terminal) => (await import('./handlers/plan.ts')).planHandler(options, terminal),
  )
    .option('--root-key-out <file>', 'where the new root’s private key goes: written once, sealed to the recipients')
    .option(
      '--keys-out <folder>',
      'with External Secrets: where private keys go, each in a file, for you to put into the store',
    )
    .option('--chain <file...>', 'the issuing CAs as the offline root signed them, for a plan that wrote requests')
    .option('--accept-outage', 'go ahead with strategy emergency, which cuts connections', false)
    .option(...dryRun, false)

  add(program, 'prove', 'the safety table of a plan, with the smallest counterexample', async (options, terminal) =>
    (await import('./handlers/prove.ts')).proveHandler(options, terminal),
  )

  add(
    program,
    'rehearse',
    'run the whole rotation on this machine, against real TLS endpoints',
    async (options, terminal) => (await import('./handlers/rehearse.ts')).rehearseHandler(options, terminal),
  )
    .option('--seed <number>', 'seed of the rehearsal’s lags, and of its faults', '1')
    .option('--runs <number>', 'as many runs under faults that are drawn from the seed, which goes up by one each time')

  add(program, 'next', 'verify the present step, then open the next pull request', async (options, terminal) =>
    (await import('./handlers/next.ts')).nextHandler(options, terminal),
  )
    .option('--nudge', 'open the present step’s nudge instead, for proxies that kept an old leaf', false)
    .option(...signingKey)
    .option(...dryRun, false)

  add(program, 'verify', 'the gates of the present step: who is ready, who is not', async (options, terminal) =>
    (await import('./handlers/verify.ts')).verifyHandler(options, terminal),
  )
    .option('--wait', 'look again until all gates hold', false)
    .option('--timeout <duration>', 'with --wait: give up after this time', '1h')
    .option('--evidence <file>', 'judge a committed evidence file offline instead of looking')
    .option(
      '--at <instant>',
      'with --evidence: judge as of this time (now, or RFC 3339) instead of that at which it was seen',
    )

  add(
    program,
    'observe',
    'from inside of a cluster: verify its site, and push what was seen for a runner that cannot reach it',
    async (options, terminal) => (await import('./handlers/observe.ts')).observeHandler(options, terminal),
  )
    .requiredOption('--site <site>', 'the site whose cluster this runs in')
    .option('--context <context>', 'read the cluster by this kubeconfig context, not by the pod’s own account')
    .option('--wait', 'look again until all gates hold, or the step is not the present one any more', false)
    .option('--timeout <duration>', 'with --wait: give up after this time', '1h')
    .option('--hook', 'this is a PostSync hook of the Application that delivers the step', false)
    .option('--waiting-ok', 'end with 0 where nothing is wrong and a gate is only pending', false)
    .option(...signingKey)
    .option(...dryRun, false)

  add(program, 'status', 'where each site stands; offline from Git unless --live', async (options, terminal) =>
    (await import('./handlers/status.ts')).statusHandler(options, terminal),
  ).option('--live', 'look at the clusters too', false)

  add(program, 'report', 'the whole of a rotation, for people: a page, or text', async (options, terminal) =>
    (await import('./handlers/report.ts')).reportHandler(options, terminal),
  )
    .option('--html <file>', 'write one self-contained page')
    .option('--live', 'look at the clusters too', false)

  add(
    program,
    'check [range]',
    'is this change of trust (BASE..HEAD) safe now?',
    async (options, terminal, words) => (await import('./handlers/check.ts')).checkHandler(options, terminal, words),
    outputFormats,
  )

  add(program, 'undo', 'open the pull request that goes back one step, where that is safe', async (options, terminal) =>
    (await import('./handlers/next.ts')).undoHandler(options, terminal),
  )
    .option(...signingKey)
    .option(...dryRun, false)

  add(
    program,
    'abandon',
    'go back to a state without the new root, then close the rotation',
    async (options, terminal) => (await import('./handlers/next.ts')).abandonHandler(options, terminal),
  )
    .option(...signingKey)
    .option(...dryRun, false)

  add(program, 'attest <name>', 'a person’s word for consumers that no API shows', async (options, terminal, words) =>
    (await import('./handlers/attest.ts')).attestHandler(options, terminal, words),
  )
    .requiredOption('--phase <number>', 'phase whose bundle the word is about')
    .option('--by <who>', 'who gives the word; the Git author unless said otherwise')
    .option(...dryRun, false)

  add(
    program,
    'run',
    'the loop for CI, CronJob or Deployment, over every open rotation: verify, open, repeat',
    async (options, terminal) => (await import('./handlers/run.ts')).runHandler(options, terminal),
  )
    .option('--once', 'one round, then end', false)
    .option('--waiting-ok', 'with --once: end with 0 where nothing is wrong and it only waits', false)
    .option('--interval <duration>', 'time between rounds', '1m')
    .option('--forever', 'go on where every rotation is closed: a new one may come', false)
    .option('--lock-for <duration>', 'how long others wait for a runner that gives no sign of life', '10m')
    .option('--no-lock', 'take no lock, where the remote refuses refs under refs/reanchor/lock/')
    .addOption(
      new Option('--log <form>', 'how rounds are told on standard error').choices(['text', 'json']).default('text'),
    )
    .addOption(
      new Option('--log-level <level>', 'what is told').choices(['debug', 'info', 'warn', 'error']).default('info'),
    )
    .option('--metrics-file <file>', 'write metrics after each round, for the textfile collector of node-exporter')
    .option('--metrics-port <port>', 'serve metrics at /metrics, and /healthz')
    .option('--metrics-host <address>', 'with --metrics-port: the address to listen at', '127.0.0.1')
    .option(...signingKey)

  add(
    program,
    'diff [range]',
    'the change of trust in words (REV..REV); with --textconv a git textconv',
    async (options, terminal, words) => (await import('./handlers/diff.ts')).diffHandler(options, terminal, words),
  ).option('--textconv <file>', 'print one file’s trust in words, for git diff')

  const pr = program.command('pr').description('pull requests of the embedded `local` forge')
  add(pr, 'list', 'list pull requests', async (options, terminal) =>
    (await import('./handlers/pr.ts')).listHandler(options, terminal),
  ).option('--all', 'merged and closed ones too', false)
  add(pr, 'show <number>', 'show one', async (options, terminal, words) =>
    (await import('./handlers/pr.ts')).showHandler(options, terminal, words),
  )
  add(pr, 'diff <number>', 'its diff', async (options, terminal, words) =>
    (await import('./handlers/pr.ts')).diffHandler(options, terminal, words),
  )
  add(pr, 'merge <number>', 'merge it', async (options, terminal, words) =>
    (await import('./handlers/pr.ts')).mergeHandler(options, terminal, words),
  ).addOption(new Option('--method <method>', 'how to merge').choices(['merge', 'squash', 'rebase']).default('merge'))

  add(
    program,
    'demo [system]',
    'init to done on a local repository, forge and rehearsal cluster',
    async (options, terminal, words) => (await import('./handlers/demo.ts')).demoHandler(options, terminal, words),
  )
    .option(
      '--dir <dir>',
      'where the demo’s repository goes; kept. A temporary folder, removed at the end, unless given',
    )
    .option('--sites <number>', 'how many sites; 1 unless the system’s demo needs more')
    .option('--regions <number>', 'Cassandra: the same as --sites')
    .option('--install <how>', 'Istio: sail, helmRelease, argocd or argocdMultiSource; sail unless given')
    .option('--flow <flow>', 'Linkerd: how trust reaches the proxies')
    .option(
      '--scenario <scenario>',
      'Kyma: which strategy is acted out; Cassandra: server-ca, client-ca or unmanaged-region',
    )
    .option('--fault <fault>', 'never-reloads, replica-lags, out-of-order, edited-pr, revert-trust-both or one-step')
    .option('--seed <number>', 'seed of the lags', '1')
}
