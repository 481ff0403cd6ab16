/** What Java makes of each phase's stores. Needs a JDK (java, keytool) and openssl. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCertificate } from '../../src/pki/certificate.ts'
import { nodeMaterial, scriptCa } from '../../src/rehearsal/cassandra/certificates.ts'
import { type CaSecret, dataOf, isTrustedKey } from '../../src/systems/cassandra/ca-secret.ts'
import { keysInGoOrder } from '../../src/systems/cassandra/checksum.ts'
import { cassandraPhases, entriesOf } from '../../src/systems/cassandra/phases.ts'

const folder = mkdtempSync(join(tmpdir(), 'reanchor-java-'))
const password = 'cassandra'
const day = 86_400_000
const life = {
  notBefore: new Date(Date.now() - day),
  notAfter: new Date(Math.floor(Date.now() / 1000) * 1000 + 3650 * day),
}

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/**
 * Shakes hands between pairs of nodes, each with the stores of a phase: mutual TLS with the operator's `algorithm` SunX509 for keys, and the one
 * named for trust.
 */
const program = `
import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.util.*;
import java.util.concurrent.*;
import javax.net.ssl.*;

public class Shake {
  static char[] password = "${password}".toCharArray();
  static KeyStore store(String file) throws Exception {
    KeyStore store = KeyStore.getInstance("PKCS12");
    try (InputStream in = new FileInputStream(file)) { store.load(in, password); }
    return store;
  }
  static SSLContext context(String node, String algorithm) throws Exception {
    KeyManagerFactory keys = KeyManagerFactory.getInstance("SunX509");
    keys.init(store(node + ".keystore.p12"), password);
    TrustManagerFactory trust = TrustManagerFactory.getInstance(algorithm);
    trust.init(store(node + ".truststore.p12"));
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    return context;
  }
  static String deepest(Throwable e) {
    while (e.getCause() != null) e = e.getCause();
    return e.getClass().getSimpleName() + ": " + e.getMessage();
  }
  static String shake(String server, String client, String algorithm) throws Exception {
    SSLServerSocket listening = (SSLServerSocket) context(server, algorithm).getServerSocketFactory().createServerSocket(0);
    listening.setNeedClientAuth(true);
    Callable<String> serve = () -> {
      try (SSLSocket socket = (SSLSocket) listening.accept()) {
        socket.setSoTimeout(10000);
        socket.getInputStream().read();
        socket.getOutputStream().write(1);
        return "ok";
      } catch (Exception e) { return "server: " + deepest(e); }
    };
    FutureTask<String> served = new FutureTask<>(serve);
    new Thread(served).start();
    String asked;
    try (SSLSocket socket = (SSLSocket) context(client, algorithm).getSocketFactory().createSocket("127.0.0.1", listening.getLocalPort())) {
      socket.setSoTimeout(10000);
      socket.getOutputStream().write(1);
      asked = socket.getInputStream().read() == 1 ? "ok" : "client: closed";
    } catch (Exception e) { asked = "client: " + deepest(e); }
    String other = served.get(20, TimeUnit.SECONDS);
    listening.close();
    return asked.equals("ok") && other.equals("ok") ? "ok" : (asked + " / " + other);
  }
  public static void main(String[] args) throws Exception {
    for (String line : Files.readAllLines(Path.of(args[0]))) {
      String[] part = line.split(" ");
      System.out.println(shake(part[0], part[1], part[2]).replace('\\n', ' '));
    }
  }
}
`

function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** The truststore as the operator makes it: one entry for each CA, named by its Subject. */
function truststore(name: string, certificates: readonly { readonly key: string; readonly pem: string }[]): void {
  for (const { key, pem } of certificates) {
    writeFileSync(join(folder, `${name}-${key}`), pem)
    run('keytool', [
      '-importcert',
      '-noprompt',
      '-storetype',
      'PKCS12',
      '-storepass',
      password,
      '-keystore',
      `${name}.truststore.p12`,
      '-alias',
      readCertificate(pem).subject,
      '-file',
      `${name}-${key}`,
    ])
  }
}

function shake(pairs: readonly string[]): readonly string[] {
  writeFileSync(join(folder, 'Shake.java'), program)
  writeFileSync(join(folder, 'pairs'), `${pairs.join('\n')}\n`)
  return run('java', ['Shake.java', 'pairs']).trim().split('\n')
}

const phases = ['adopt', 'add', 'swap', 'drop'] as const
const trusted = new Map<string, number>()

beforeAll(async () => {
  const [old, fresh] = await Promise.all([scriptCa('ca', life), scriptCa('example-ca-2026', life)])
  const secret: CaSecret = {
    namespace: 'cassandra',
    name: 'example-cluster-tls-ca',
    type: 'Opaque',
    certificateKey: 'ca.crt',
    privateKey: 'ca.key',
    data: { 'ca.crt': old.certificate, 'ca.key': old.key },
  }
  const next = { certificate: readCertificate(fresh.certificate), key: fresh.key }
  for (const { name, steps } of cassandraPhases('graceful', { secret, next, restarts: {} })) {
    const state = steps[0]!.state
    const data = dataOf({ entries: entriesOf(state), issuer: state.issuer }, secret, next)
    const node = await nodeMaterial(data, secret, life.notBefore)
    const keys = keysInGoOrder(data).filter(isTrustedKey)
    trusted.set(name, keys.length)
    truststore(
      name,
      keys.map(key => ({ key, pem: data[key] ?? '' })),
    )
    writeFileSync(join(folder, `${name}.crt`), node['tls.crt'])
    writeFileSync(join(folder, `${name}.key`), node['tls.key'])
    writeFileSync(join(folder, `${name}.chain`), keys.map(key => data[key] ?? '').join(''))
    run('openssl', [
      'pkcs12',
      '-export',
      '-name',
      'node',
      '-in',
      `${name}.crt`,
      '-inkey',
      `${name}.key`,
      '-certfile',
      `${name}.chain`,
      '-passout',
      `pass:${password}`,
      '-out',
      `${name}.keystore.p12`,
    ])
  }
}, 120_000)

describe('Java', () => {
  it('holds every CA of a phase in the truststore that keytool builds from its Secret', () => {
    for (const name of phases) {
      const listed = run('keytool', ['-list', '-storepass', password, '-keystore', `${name}.truststore.p12`])
      expect(listed).toContain(`Your keystore contains ${trusted.get(name)} entr`)
    }
    expect([...trusted.values()]).toEqual([1, 2, 2, 1])
  })

  it.each(['SunX509', 'PKIX'])(
    'shakes hands in every mix of two neighbouring phases, both ways, with %s',
    algorithm => {
      const pairs: string[] = []
      for (const [index, phase] of phases.entries()) {
        const near = phases.slice(index, index + 2)
        for (const server of near)
          for (const client of near)
            if (server === phase || client === phase) pairs.push(`${server} ${client} ${algorithm}`)
      }
      const results = shake(pairs)
      expect(results).toHaveLength(pairs.length)
      expect(pairs.flatMap((pair, index) => (results[index] === 'ok' ? [] : [`${pair}: ${results[index]}`]))).toEqual(
        [],
      )
    },
  )

  it('refuses where phases are skipped: swap without add, drop without swap (control that must fail)', () => {
    const results = shake(['adopt swap SunX509', 'swap adopt SunX509', 'add drop SunX509', 'adopt drop SunX509'])
    for (const result of results) expect(result).toMatch(/client|server/)
    expect(results.every(result => result !== 'ok')).toBe(true)
  })

  it('cannot hold two CAs whose Subjects differ only in case (F9)', async () => {
    const [one, two] = await Promise.all([scriptCa('ca2', life), scriptCa('CA2', life)])
    truststore('twins', [{ key: 'one', pem: one.certificate }])
    expect(() => truststore('twins', [{ key: 'two', pem: two.certificate }])).toThrow()
    const listed = run('keytool', ['-list', '-storepass', password, '-keystore', 'twins.truststore.p12'])
    expect(listed).toContain('Your keystore contains 1 entry')
    expect(listed).toContain('o=ca2')
  })
})
