import type {
  ClusterChoice,
  CurrentSource,
  CustodyChoice,
  Declaration,
  DeliveryChoice,
  ForgeChoice,
  IssuingSettings,
  NextSource,
  Rollout,
} from '../rotation.ts'
import { systemOf } from '../systems/systems.ts'
import { formatDuration, usualWithin } from './values.ts'

/** Remarks by field, such as `spec.sites[0].path`: each stands as a comment right above its field. */
export type Notes = ReadonlyMap<string, string>

const noNotes: Notes = new Map()
const longestComment = 100

/**
 * rotation.yaml as text, with comments. `readDeclaration` reads it back to an equal declaration; fields that hold their default
 * and say nothing to a reader are left out.
 */
export function writeDeclaration(declaration: Declaration, notes: Notes = noNotes): string {
  const { gates } = declaration
  const system = systemOf(declaration.system)
  const out = new Writer(notes)
  out.comment('How one certificate authority is replaced. Fields: docs/rotation.yaml.md of reanchor.')
  out.comment('After a change run: reanchor plan')
  out.field('apiVersion', 'reanchor.dev/v1alpha1')
  out.field('kind', 'TrustRotation')
  out.map('metadata', () => out.field('name', declaration.name))
  out.map('spec', () => {
    out.field('system', declaration.system)
    out.field('strategy', declaration.strategy, 'graceful: new key, no outage | renew | issuer | emergency')
    out.field('base', declaration.base, 'the branch that Flux or Argo CD follows')
    writeForge(out, declaration.forge)
    out.gap()
    out.comment('The CA in use now.')
    writeCurrent(out, declaration.current)
    out.comment('The CA that takes its place.')
    writeNext(out, declaration.next, system.settings.issuing, keepsKey(declaration) ? usualNext(declaration) : null)
    out.comment('How private keys are sealed before they reach Git.')
    writeCustody(out, declaration.custody)
    out.gap()
    out.comment('Clusters that share this trust root. Each path is a folder of its own, owned by reanchor.')
    out.list('sites', declaration.sites, site => {
      out.field('name', site.name)
      out.field('path', site.path)
      writeCluster(out, site.cluster)
      writeDelivery(out, site.delivery)
      if (site.current !== null) writeCurrent(out, site.current)
      if (site.custody !== null) writeCustody(out, site.custody)
      if (site.base !== null) out.field('base', site.base)
    })
    writeRollout(out, declaration.rollout)
    out.gap()
    out.comment('What the verifier asks for before the next pull request is opened.')
    out.map('gates', () => {
      out.field('hold', formatDuration(gates.hold), 'how long the last change must lie back')
      out.field('fresh', formatDuration(gates.fresh), 'after this an observation is stale')
      if (gates.settle !== 15_000)
        out.field('settle', formatDuration(gates.settle), 'between two observations that must agree')
      if (gates.attest.length > 0) {
        out.list('attest', gates.attest, entry => {
          out.field('name', entry.name)
          out.field('why', entry.why)
        })
      }
    })
    if (declaration.evidence.signers.length > 0) {
      out.comment('Whose evidence counts: lines of an allowed-signers file.')
      out.map('evidence', () => out.values('signers', declaration.evidence.signers))
    }
    const leaves = system.settings.leaves?.(declaration) ?? null
    if (declaration.reload.length > 0 || leaves !== null) {
      out.comment('Workloads that are re-created through Git, because proxies read some settings only at start.')
      out.map('reload', () => {
        if (leaves !== null)
          out.field('leaves', leaves, 'renewal: by themselves | restart: everything restarts once more')
        if (declaration.reload.length === 0) return
        out.list('workloads', declaration.reload, target => {
          out.field('site', target.site)
          out.field('path', folderValue(target.path))
          out.values('kinds', target.kinds)
          if (target.batch !== 1) out.number('batch', target.batch)
        })
      })
    }
    out.gap()
    out.map(declaration.system, () => system.settings.write(out, declaration))
    if (declaration.paused) out.flag('paused', true, 'verifies and reports, opens nothing')
  })
  return out.text()
}

function folderValue(path: string): string {
  return path === '' ? '.' : path
}

function writeForge(out: Writer, forge: ForgeChoice): void {
  if (forge.kind === 'local' || forge.kind === 'none') {
    out.field('forge', forge.kind, 'github | gitlab | gitea | bitbucket | local | none')
    return
  }
  out.map('forge', () => {
    out.map(forge.kind, () => {
      out.field('repository', forge.repository)
      if (forge.url !== null) out.field('url', forge.url)
      if (forge.labels.length > 0) out.values('labels', forge.labels)
      if (forge.reviewers.length > 0) out.values('reviewers', forge.reviewers)
      if (forge.draft) out.flag('draft', true)
      if (forge.dashboard) out.flag('dashboard', true)
    })
  })
}

function writeCurrent(out: Writer, current: CurrentSource): void {
  out.map('current', () => {
    if (current.from === 'cluster') {
      out.field('from', 'cluster')
      return
    }
    out.map('files', () => {
      out.field('certificate', current.certificate)
      if (current.key !== null) out.field('key', current.key)
      if (current.chain !== null) out.field('chain', current.chain)
      if (current.roots !== null) out.field('roots', current.roots)
    })
  })
}

/** Whether the new certificate is for the key in use. */
function keepsKey(declaration: Declaration): boolean {
  if (declaration.strategy === 'renew') return true
  return declaration.system === 'kyma' && declaration.kyma.compromised === 'certificate'
}

/** What counts where the file says neither. Where key and subject stay, both are those in use then, and need no mention. */
interface UsualNext {
  readonly algorithm: string
  readonly subject: string
}

function usualNext(declaration: Declaration): UsualNext {
  const { settings } = systemOf(declaration.system)
  return {
    algorithm: settings.defaults.algorithm ?? 'ecdsa-p256',
    subject: settings.subjects(declaration.name, declaration).root,
  }
}

function writeNext(out: Writer, next: NextSource, issues: boolean, usual: UsualNext | null): void {
  out.map('next', () => {
    if (next.from === 'generate') {
      out.map('generate', () => {
        if (next.algorithm !== usual?.algorithm)
          out.field('algorithm', next.algorithm, 'ecdsa-p256 | ecdsa-p384 | rsa-4096')
        if (next.subject !== usual?.subject) out.field('subject', next.subject)
        out.field(
          'validity',
          `${next.validityDays}d`,
          usual === null ? undefined : 'of the new certificate: key and subject stay',
        )
        if (issues) out.map('issuing', () => writeIssuing(out, next.issuing, next.algorithm))
      })
      return
    }
    if (next.from === 'csr') {
      out.map('csr', () => {
        if (next.root !== null) out.field('root', next.root)
        out.map('issuing', () => writeIssuing(out, next.issuing, 'ecdsa-p256'))
      })
      return
    }
    if (next.from === 'certManager') {
      out.map('certManager', () => {
        out.map('issuer', () => {
          out.field('name', next.issuer.name)
          out.field('kind', next.issuer.kind)
          if (next.issuer.group !== 'cert-manager.io') out.field('group', next.issuer.group)
        })
        out.field('namespace', next.namespace)
        out.field('path', next.path)
        if (next.root !== null) out.field('root', next.root)
        if (next.site !== null) out.field('site', next.site)
        out.map('issuing', () => writeIssuing(out, next.issuing, null))
      })
      return
    }
    out.map('files', () => {
      out.field('root', next.root)
      out.map('issuing', () => {
        for (const [site, entry] of Object.entries(next.issuing)) {
          out.map(site, () => {
            out.field('certificate', entry.certificate)
            out.field('key', entry.key)
            if (entry.chain !== null) out.field('chain', entry.chain)
          })
        }
      })
    })
  })
}

function writeIssuing(out: Writer, issuing: IssuingSettings, algorithm: IssuingSettings['algorithm'] | null): void {
  if (issuing.algorithm !== algorithm) out.field('algorithm', issuing.algorithm)
  out.field('subject', issuing.subject)
  out.field('validity', `${issuing.validityDays}d`)
}

function writeCustody(out: Writer, custody: CustodyChoice): void {
  out.map('custody', () => {
    if (custody.kind === 'sops') {
      if (custody.age === null && !custody.ksops && custody.rootAge.length === 0) {
        out.raw('sops: {}  # recipients: those of the rule in .sops.yaml that matches the file')
        return
      }
      out.map('sops', () => {
        if (custody.age !== null) out.values('age', custody.age)
        if (custody.ksops) out.flag('ksops', true, 'Argo CD decrypts with KSOPS')
        if (custody.rootAge.length > 0) {
          out.comment("Recipients of the new root's key file.")
          out.values('rootAge', custody.rootAge)
        }
      })
      return
    }
    if (custody.kind === 'sealedSecrets') {
      out.map('sealedSecrets', () => {
        out.field('certificate', custody.certificate)
        out.field('scope', custody.scope)
        if (custody.age.length > 0) {
          out.comment("Recipients of the new root's key file, which SealedSecrets cannot seal.")
          out.values('age', custody.age)
        }
      })
      return
    }
    out.map('externalSecrets', () => {
      out.field('store', custody.store)
      out.field('kind', custody.storeKind)
      out.field('prefix', custody.prefix)
      out.field('version', custody.version)
      if (custody.vaultMount !== null) out.field('vaultMount', custody.vaultMount)
      if (custody.age.length > 0) {
        out.comment("Recipients of the new root's key file, which never goes to the store.")
        out.values('age', custody.age)
      }
    })
  })
}

function writeCluster(out: Writer, cluster: ClusterChoice): void {
  if (cluster.kind === 'inCluster') {
    out.field('cluster', 'inCluster')
    return
  }
  out.map('cluster', () => {
    if (cluster.kind === 'reports') {
      out.field('reports', cluster.ref)
      if (cluster.within !== usualWithin) out.field('within', formatDuration(cluster.within))
      if (cluster.signer !== null) out.field('signer', cluster.signer)
    }
    if (cluster.kind === 'kubeconfig') out.field('kubeconfig', cluster.file)
    if (cluster.kind !== 'reports' && cluster.context !== null) out.field('context', cluster.context)
  })
}

function writeDelivery(out: Writer, delivery: DeliveryChoice): void {
  out.map('delivery', () => {
    if (delivery.kind === 'flux') {
      out.map('flux', () => {
        out.field('kustomization', `${delivery.namespace}/${delivery.name}`)
        if (delivery.file !== null) out.field('file', delivery.file)
        out.field('source', `${delivery.source.namespace}/${delivery.source.name}`)
        if (delivery.decryptionSecret !== 'sops-age') out.field('decryptionSecret', delivery.decryptionSecret)
      })
      return
    }
    out.map('argocd', () => {
      out.field('application', `${delivery.namespace}/${delivery.name}`)
      if (delivery.file !== null) out.field('file', delivery.file)
      if (delivery.repoURL !== null) out.field('repoURL', delivery.repoURL)
      if (delivery.project !== 'default') out.field('project', delivery.project)
    })
  })
}

function writeRollout(out: Writer, rollout: Rollout): void {
  if (rollout.kind !== 'batches') {
    out.field('rollout', rollout.kind, 'parallel | serial | batches')
    return
  }
  out.map('rollout', () => {
    out.raw('batches:')
    for (const batch of rollout.batches) out.raw(`  - [${batch.map(scalar).join(', ')}]`)
  })
}

/** What a system writes the fields of its own with. */
export interface DeclarationWriter {
  comment(text: string): void
  /** A line as it is, below the field that is open. */
  raw(line: string): void
  field(name: string, value: string, remark?: string): void
  number(name: string, value: number): void
  flag(name: string, value: boolean, remark?: string): void
  values(name: string, values: readonly string[]): void
  map(name: string, inner: () => void): void
  list<Item>(name: string, items: readonly Item[], inner: (item: Item) => void): void
}

/** Lines of block YAML with the path of each field, so that notes find their place. */
class Writer implements DeclarationWriter {
  readonly #notes: Notes
  readonly #lines: string[] = []
  #indent = 0
  #path = ''
  /** The next line begins a list item. */
  #dash = false

  constructor(notes: Notes) {
    this.#notes = notes
  }

  text(): string {
    return `${this.#lines.join('\n')}\n`
  }

  gap(): void {
    this.#lines.push('')
  }

  comment(text: string): void {
    for (const line of wrapped(text, longestComment - this.#indent))
      this.#lines.push(`${' '.repeat(this.#indent)}# ${line}`)
  }

  raw(line: string): void {
    const dash = this.#dash
    this.#dash = false
    this.#lines.push(`${' '.repeat(dash ? this.#indent - 2 : this.#indent)}${dash ? '- ' : ''}${line}`)
  }

  field(name: string, value: string, remark?: string): void {
    this.#plain(name, scalar(value), remark)
  }

  number(name: string, value: number): void {
    this.#plain(name, String(value))
  }

  flag(name: string, value: boolean, remark?: string): void {
    this.#plain(name, String(value), remark)
  }

  values(name: string, values: readonly string[]): void {
    this.#note(name)
    this.raw(`${scalar(name)}:`)
    for (const value of values) this.raw(`  - ${scalar(value)}`)
  }

  map(name: string, inner: () => void): void {
    this.#note(name)
    this.raw(`${scalar(name)}:`)
    this.#within(`.${name}`, 2, inner)
  }

  list<Item>(name: string, items: readonly Item[], inner: (item: Item) => void): void {
    this.#note(name)
    this.raw(`${scalar(name)}:`)
    for (const [index, item] of items.entries()) {
      this.#within(`.${name}[${index}]`, 4, () => {
        this.#dash = true
        inner(item)
      })
    }
  }

  #within(path: string, indent: number, inner: () => void): void {
    const outer = this.#path
    this.#path = `${outer}${path}`
    this.#indent += indent
    inner()
    this.#indent -= indent
    this.#path = outer
  }

  #plain(name: string, value: string, remark?: string): void {
    this.#note(name)
    this.raw(`${scalar(name)}: ${value}${remark === undefined ? '' : `  # ${remark}`}`)
  }

  #note(name: string): void {
    const note = this.#notes.get(`${this.#path}.${name}`.slice(1))
    if (note === undefined) return
    // Between a dash and its first field there is no room: the note goes above the item.
    const indent = this.#dash ? this.#indent - 2 : this.#indent
    for (const line of wrapped(note, longestComment - indent)) this.#lines.push(`${' '.repeat(indent)}# ${line}`)
  }
}

/** A text in block context: plain where no reader of YAML can take it for something else, else in JSON's quotes. */
function scalar(text: string): string {
  const plain =
    /^[A-Za-z0-9_./=][A-Za-z0-9 _./@+=,{}:-]*$/.test(text) &&
    !/: |:$| $/.test(text) &&
    !/^(true|false|null|yes|no|on|off|y|n|\.inf|\.nan)$/i.test(text) &&
    Number.isNaN(Number(text)) &&
    !/^[0-9.]+([:_][0-9]+)+$/.test(text)
  return plain ? text : JSON.stringify(text)
}

function wrapped(text: string, width: number): readonly string[] {
  const lines: string[] = []
  for (const paragraph of text.split('\n')) {
    let line = ''
    for (const word of paragraph.split(' ')) {
      if (line !== '' && line.length + word.length >= width) {
        lines.push(line)
        line = word
      } else line = line === '' ? word : `${line} ${word}`
    }
    lines.push(line)
  }
  return lines
}
