/** What Java's PKIX and OpenSSL make of a gateway's bundle with two certificates, in either order. Needs a JDK (java) and openssl. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate } from '../../src/pki/certificate.ts'
import { connectorLeaf, setupJobCa } from '../../src/rehearsal/kyma/certificates.ts'
import { bundleText } from '../../src/systems/kyma/material.ts'
import { generateKymaCa, type KymaCa, renewKymaCa } from '../../src/systems/kyma/next-ca.ts'
import { quickKeys } from '../systems/kyma/material.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-kyma-java-'))
const day = 86_400_000
const now = Math.floor(Date.now() / 1000) * 1000
const life = { notBefore: new Date(now - day), notAfter: new Date(now + 200 * day) }

/** Each line `LEAF BUNDLE`: whether a trust manager of each algorithm takes the client, the bundle's entries in the file's order. */
const program = `
import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

public class Verify {
  static Collection<? extends Certificate> read(String file) throws Exception {
    try (InputStream in = new FileInputStream(file)) {
      return CertificateFactory.getInstance("X.509").generateCertificates(in);
    }
  }
  static boolean takes(String leaf, String bundle, String algorithm) throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    int entry = 0;
    for (Certificate anchor : read(bundle)) store.setCertificateEntry("ca" + entry++, anchor);
    TrustManagerFactory factory = TrustManagerFactory.getInstance(algorithm);
    factory.init(store);
    X509Certificate[] chain = read(leaf).toArray(new X509Certificate[0]);
    try {
      ((X509TrustManager) factory.getTrustManagers()[0]).checkClientTrusted(chain, "RSA");
      return true;
    } catch (CertificateException refused) { return false; }
  }
  public static void main(String[] args) throws Exception {
    for (String line : Files.readAllLines(Path.of(args[0]))) {
      String[] part = line.split(" ");
      System.out.println(takes(part[0], part[1], "PKIX") + " " + takes(part[0], part[1], "SunX509"));
    }
  }
}
`

afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
}

function openssl(leaf: string, bundle: string): boolean {
  try {
    run('openssl', ['verify', '-purpose', 'sslclient', '-no-CApath', '-no-CAstore', '-CAfile', bundle, leaf])
    return true
  } catch {
    return false
  }
}

/** Who takes the leaf with the bundle: `PKIX SunX509 OpenSSL`. */
function verdicts(pairs: readonly (readonly [string, string])[]): readonly string[] {
  writeFileSync(join(folder, 'Verify.java'), program)
  writeFileSync(join(folder, 'pairs'), pairs.map(pair => `${pair.join(' ')}\n`).join(''))
  const told = run('java', ['Verify.java', 'pairs']).trim().split('\n')
  return pairs.map(([leaf, bundle], index) => `${told[index]} ${openssl(leaf, bundle)}`)
}

beforeAll(async () => {
  const made = await setupJobCa(life)
  const old: KymaCa = { certificate: readCertificate(made.certificate), key: made.key }
  const means = { now: new Date(), random: (size: number) => Buffer.alloc(size, 9), keys: quickKeys }
  const renewed = await renewKymaCa(old, 365, means)
  const fresh = await generateKymaCa({ subject: 'CN=Kyma kyma-2026', validityDays: 365 }, means)
  const cas = { old, renewed, fresh }
  for (const [name, { certificate, key }] of Object.entries(cas)) {
    const { certificate: leaf } = await connectorLeaf({ certificate: certificate.pem, key }, 'shop', life)
    writeFileSync(join(folder, `leaf-${name}`), leaf)
    for (const [other, { certificate: second }] of Object.entries(cas))
      writeFileSync(
        join(folder, other === name ? name : `${name}+${other}`),
        bundleText(other === name ? [certificate] : [certificate, second]),
      )
  }
}, 120_000)

describe('two certificates in one bundle', () => {
  it('of one key and one Subject are taken in either order, alone and together, for leaves of both (F7)', () => {
    const bundles = ['old', 'renewed', 'old+renewed', 'renewed+old']
    const pairs = ['leaf-old', 'leaf-renewed'].flatMap(leaf => bundles.map(bundle => [leaf, bundle] as const))
    expect(verdicts(pairs)).toEqual(pairs.map(() => 'true true true'))
  }, 120_000)

  it('of two keys are taken in either order too; without its own CA a leaf is refused by each (control that must fail)', () => {
    const both = ['leaf-old', 'leaf-fresh'].flatMap(leaf =>
      ['old+fresh', 'fresh+old'].map(bundle => [leaf, bundle] as const),
    )
    expect(verdicts(both)).toEqual(both.map(() => 'true true true'))
    expect(
      verdicts([
        ['leaf-old', 'fresh'],
        ['leaf-fresh', 'old'],
        ['leaf-fresh', 'old+renewed'],
      ]),
    ).toEqual(['false false false', 'false false false', 'false false false'])
  }, 120_000)
})
