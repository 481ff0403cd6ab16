import type { KeyObject } from 'node:crypto'
import {
  authorityKey,
  basicConstraints,
  createCertificate,
  extendedKeyUsage,
  keyIdOf,
  keyUsage,
  privateKeyPem,
  type RawExtension,
  type Signer,
  serialFrom,
  subjectKey,
  systemKeys,
} from '../../src/pki/authority.ts'
import type { Certificate } from '../../src/pki/certificate.ts'
import { encode, tags } from '../../src/pki/der.ts'
import { extensionOids } from '../../src/pki/extensions.ts'
import { parseName } from '../../src/pki/names.ts'
import type { SystemName } from '../../src/rotation.ts'
import type { Random } from '../random.ts'

const day = 86_400_000

/** A leaf and what signed it, as the holder has them. */
export interface Leaf {
  readonly issuer: Certificate
  readonly certificate: Certificate
  readonly key: KeyObject
}

/** CAs that have to do with each other, and a leaf of each. */
export interface Family {
  readonly system: SystemName
  readonly cas: readonly Certificate[]
  readonly leaves: readonly Leaf[]
}

/** RSA keys are dear: a run has a few, and families deal with those. */
export interface Keys {
  readonly cas: readonly KeyObject[]
  readonly leaves: readonly KeyObject[]
}

export async function makeKeys(): Promise<Keys> {
  const make = (algorithm: 'rsa-2048' | 'ecdsa-p256', count: number) =>
    Promise.all(Array.from({ length: count }, () => systemKeys.generate(algorithm)))
  const [rsa, ec, rsaLeaf, ecLeaf] = await Promise.all([
    make('rsa-2048', 5),
    make('ecdsa-p256', 16),
    make('rsa-2048', 1),
    make('ecdsa-p256', 4),
  ])
  return { cas: [...rsa, ...ec], leaves: [...rsaLeaf, ...ecLeaf] }
}

/** How the issuing CAs of a system are called; two of one Subject are made on purpose, never by chance. */
const subjects: Readonly<Record<SystemName, (random: Random) => string>> = {
  istio: random => random.pick(['O=Istio,CN=Root CA', 'O=cluster.local', 'O=Example,CN=Mesh']),
  linkerd: random => random.pick(['CN=root.linkerd.cluster.local', 'CN=identity.linkerd.cluster.local']),
  kyma: random => random.pick(['O=Example,OU=Kyma,CN=connector', 'CN=kyma-project.io']),
  cassandra: random => random.pick(['O=ca', 'O=ca2', 'O=example-ca-2026']),
}

interface Shape {
  readonly subject: string
  readonly key: KeyObject
  readonly issuer: Signer | null
  readonly random: Random
  readonly now: number
  readonly system: SystemName
  readonly identifiers: 'both' | 'none' | 'subject'
  readonly constrained: boolean
}

/** One CA, with what CAs in use have and have not. */
async function ca(shape: Shape): Promise<Signer> {
  const { subject, key, issuer, random, system, identifiers } = shape
  const extensions: RawExtension[] = [keyUsage(['keyCertSign', 'cRLSign'])]
  const length = issuer === null ? random.pick([null, null, null, 0, 1]) : random.pick([null, null, 0, 0, 1])
  extensions.push(basicConstraints(random.chance(0.03) ? false : length))
  if (identifiers !== 'none') extensions.push(subjectKey(keyIdOf(key)))
  if (identifiers === 'both') {
    const above = issuer === null ? keyIdOf(key) : issuer.certificate.ski
    if (above !== null) extensions.push(authorityKey(above))
  }
  // The identity issuer of Linkerd carries its name as a DNS name too, which is what constraints of a root can be about.
  if (system === 'linkerd' && issuer !== null && random.chance(0.7)) extensions.push(dnsNames(subject.slice(3)))
  if (shape.constrained) extensions.push(constraints(random, system))
  const certificate = await createCertificate({
    ...life(random, shape.now),
    serial: serialFrom(random.bytes),
    subject,
    issuer: issuer === null ? subject : issuer.certificate.parts.subject,
    publicKey: key,
    signingKey: issuer?.key ?? key,
    extensions,
  })
  return { certificate, key }
}

/** Days away from now at either end: no mix may turn while it is shaken. */
function life(random: Random, now: number): { notBefore: Date; notAfter: Date } {
  const lot = random.whole(100)
  const at = (days: number) => new Date(Math.floor((now + days * day) / 1000) * 1000)
  if (lot < 7) return { notBefore: at(-700), notAfter: at(-5 - random.whole(200)) }
  if (lot < 11) return { notBefore: at(5 + random.whole(50)), notAfter: at(3000) }
  return { notBefore: at(-30 - random.whole(300)), notAfter: at(60 + random.whole(3000)) }
}

function dnsNames(name: string): RawExtension {
  const value = encode(tags.sequence, encode(0x82, Buffer.from(name, 'latin1')))
  return { oid: extensionOids.names, critical: false, value }
}

/** On DNS names where CAs have those, else on directory names. The leaf's own name is a URI, which neither is about. */
function constraints(random: Random, system: SystemName): RawExtension {
  const base =
    system === 'istio'
      ? encode(0xa4, parseName(random.pick(['O=Istio', 'O=Example', 'O=cluster.local'])))
      : encode(0x82, Buffer.from(random.pick(['cluster.local', 'linkerd.cluster.local', 'example.com']), 'latin1'))
  const list = encode(random.chance(0.8) ? 0xa0 : 0xa1, encode(tags.sequence, base))
  return { oid: extensionOids.nameConstraints, critical: true, value: encode(tags.sequence, list) }
}

/** Roots, CAs below them, renewals, cross-signs and twins: what a fleet collects over the years, only denser. */
export async function makeFamily(system: SystemName, random: Random, keys: Keys, now: number): Promise<Family> {
  const own = random.shuffled(keys.cas)
  let used = 0
  const fresh = (): KeyObject => own[used++ % own.length]!
  const named = (): string => `${subjects[system](random)}`
  const part = (): Pick<Shape, 'random' | 'now' | 'system' | 'identifiers' | 'constrained'> => ({
    random,
    now,
    system,
    identifiers: random.pick(['both', 'both', 'both', 'none', 'subject'] as const),
    constrained: random.chance(0.08),
  })
  const roots: Signer[] = []
  for (let count = 2; count > 0; count--)
    roots.push(await ca({ subject: named(), key: fresh(), issuer: null, ...part() }))
  const all: Signer[] = [...roots]
  for (let count = 3 + random.whole(4); count > 0; count--) {
    const of = random.pick(all)
    const { subject } = of.certificate.parts
    const text = of.certificate.subject
    const by = random.pick(all)
    switch (random.pick(['issuing', 'issuing', 'renewed', 'cross', 'twin', 'root'] as const)) {
      case 'issuing':
        all.push(await ca({ subject: named(), key: fresh(), issuer: by, ...part() }))
        break
      case 'renewed': {
        const above = all.find(one => one.certificate.parts.subject.der.equals(of.certificate.parts.issuer.der))
        const selfSigned = subject.der.equals(of.certificate.parts.issuer.der)
        all.push(await ca({ subject: text, key: of.key, issuer: selfSigned ? null : (above ?? null), ...part() }))
        break
      }
      case 'cross':
        if (by.key !== of.key) all.push(await ca({ subject: text, key: of.key, issuer: by, ...part() }))
        break
      case 'twin':
        all.push(await ca({ subject: text, key: fresh(), issuer: random.chance(0.5) ? null : by, ...part() }))
        break
      case 'root':
        all.push(await ca({ subject: named(), key: fresh(), issuer: null, ...part() }))
        break
    }
  }
  const leaves = await Promise.all(all.map(signer => leaf(system, signer, random.pick(keys.leaves), random, now)))
  return { system, cas: all.map(({ certificate }) => certificate), leaves }
}

/** As Go's x509.CreateCertificate signs for istiod, identity and the connector: the issuer's SKI as AKI, or none. */
async function leaf(system: SystemName, signer: Signer, key: KeyObject, random: Random, now: number): Promise<Leaf> {
  const names = encode(tags.sequence, encode(0x86, Buffer.from('spiffe://cluster.local/ns/shop/sa/cart', 'latin1')))
  const subject = system === 'kyma' || system === 'cassandra' ? `O=Example,CN=${system}-leaf` : ''
  const { ski } = signer.certificate
  const certificate = await createCertificate({
    serial: serialFrom(random.bytes),
    subject,
    issuer: signer.certificate.parts.subject,
    notBefore: new Date(Math.floor(now / 1000) * 1000 - day),
    notAfter: new Date(Math.floor(now / 1000) * 1000 + 30 * day),
    publicKey: key,
    signingKey: signer.key,
    extensions: [
      basicConstraints(false),
      keyUsage(['digitalSignature', 'keyEncipherment']),
      extendedKeyUsage(['server', 'client']),
      ...(ski === null ? [] : [authorityKey(ski)]),
      { oid: extensionOids.names, critical: subject === '', value: names },
    ],
  })
  return { issuer: signer.certificate, certificate, key }
}

const pems = new WeakMap<KeyObject, string>()

export function pemKey({ key }: Pick<Leaf, 'key'>): string {
  const known = pems.get(key) ?? privateKeyPem(key)
  pems.set(key, known)
  return known
}
