import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { lineStack } from './lines.ts'
import type { Stack } from './stack.ts'

/** Two SSLEngines that talk in memory, with the trust manager that the mix names; keys and chains are sent as given. */
const program = `
import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.security.*;
import java.security.cert.*;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.*;
import javax.net.ssl.*;

public class Shake {
  static class Keys extends X509ExtendedKeyManager {
    final X509Certificate[] chain;
    final PrivateKey key;
    Keys(X509Certificate[] chain, PrivateKey key) { this.chain = chain; this.key = key; }
    boolean fits(String type) { return type.startsWith(key.getAlgorithm()); }
    String chosen(String[] types) {
      for (String type : types) if (fits(type)) return "key";
      return null;
    }
    public String[] getClientAliases(String type, Principal[] issuers) { return new String[] {"key"}; }
    public String[] getServerAliases(String type, Principal[] issuers) { return new String[] {"key"}; }
    public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) { return chosen(types); }
    public String chooseServerAlias(String type, Principal[] issuers, Socket socket) { return fits(type) ? "key" : null; }
    public String chooseEngineClientAlias(String[] types, Principal[] issuers, SSLEngine engine) { return chosen(types); }
    public String chooseEngineServerAlias(String type, Principal[] issuers, SSLEngine engine) { return fits(type) ? "key" : null; }
    public X509Certificate[] getCertificateChain(String alias) { return chain; }
    public PrivateKey getPrivateKey(String alias) { return key; }
  }
  static CertificateFactory factory;
  static X509Certificate[] list(String text) throws Exception {
    List<X509Certificate> all = new ArrayList<>();
    for (String one : text.split(","))
      all.add((X509Certificate) factory.generateCertificate(new ByteArrayInputStream(Base64.getDecoder().decode(one))));
    return all.toArray(new X509Certificate[0]);
  }
  static SSLContext context(String algorithm, String chain, String key, String trusts) throws Exception {
    X509Certificate[] sent = list(chain);
    PrivateKey secret = KeyFactory.getInstance(sent[0].getPublicKey().getAlgorithm())
      .generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(key)));
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    int count = 0;
    for (X509Certificate one : list(trusts)) store.setCertificateEntry("ca" + count++, one);
    TrustManagerFactory trust = TrustManagerFactory.getInstance(algorithm);
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLSv1.3");
    context.init(new KeyManager[] {new Keys(sent, secret)}, trust.getTrustManagers(), null);
    return context;
  }
  static void tasks(SSLEngine engine) {
    for (Runnable task; (task = engine.getDelegatedTask()) != null; ) task.run();
  }
  static String deepest(Throwable e) {
    while (e.getCause() != null) e = e.getCause();
    return (e.getClass().getSimpleName() + ": " + e.getMessage()).replace('\\n', ' ');
  }
  static String shake(SSLEngine server, SSLEngine client) throws Exception {
    server.setUseClientMode(false);
    server.setNeedClientAuth(true);
    client.setUseClientMode(true);
    ByteBuffer toServer = ByteBuffer.allocate(1 << 18), toClient = ByteBuffer.allocate(1 << 18);
    ByteBuffer dot = ByteBuffer.wrap(new byte[] {1}), got = ByteBuffer.allocate(1 << 16);
    boolean answered = false;
    for (int round = 0; round < 200; round++) {
      step(client, ByteBuffer.allocate(0), toServer, toClient, got);
      if (got.position() > 0) return "ok";
      ByteBuffer nothing = ByteBuffer.allocate(1 << 16);
      boolean done = server.getHandshakeStatus() == SSLEngineResult.HandshakeStatus.NOT_HANDSHAKING
        && !server.getSession().getProtocol().equals("NONE");
      if (done && !answered) answered = true;
      step(server, answered ? dot : ByteBuffer.allocate(0), toClient, toServer, nothing);
    }
    return "broken no end";
  }
  static void step(SSLEngine engine, ByteBuffer say, ByteBuffer out, ByteBuffer in, ByteBuffer got) throws Exception {
    tasks(engine);
    if (engine.getHandshakeStatus() != SSLEngineResult.HandshakeStatus.NEED_UNWRAP || !in.hasRemaining())
      for (int count = 0; count < 8; count++) {
        SSLEngineResult result = engine.wrap(say, out);
        tasks(engine);
        if (result.bytesProduced() == 0) break;
      }
    in.flip();
    while (in.hasRemaining()) {
      SSLEngineResult result = engine.unwrap(in, got);
      tasks(engine);
      if (result.bytesConsumed() == 0) break;
    }
    in.compact();
  }
  public static void main(String[] args) throws Exception {
    factory = CertificateFactory.getInstance("X.509");
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null; ) {
      String[] part = line.split("\\t");
      String algorithm = part[0].equals("java-sunx509") ? "SunX509" : "PKIX";
      String answer;
      try {
        answer = shake(
          context(algorithm, part[2], part[3], part[4]).createSSLEngine(),
          context(algorithm, part[5], part[6], part[7]).createSSLEngine("peer", 1));
      } catch (SSLException e) {
        answer = "refused: " + deepest(e);
      } catch (Throwable e) {
        answer = "broken " + deepest(e);
      }
      System.out.println(answer);
    }
  }
}
`

/** Compiles the program in `folder`; needs a JDK on the PATH. One JVM takes all mixes. */
export async function javaStack(folder: string): Promise<Stack> {
  await writeFile(join(folder, 'Shake.java'), program)
  await promisify(execFile)('javac', ['Shake.java'], { cwd: folder })
  return lineStack('java', ['-Xshare:auto', '-XX:TieredStopAtLevel=1', '-cp', folder, 'Shake'], folder)
}
