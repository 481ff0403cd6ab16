//! A proxy as far as trust goes, on what linkerd2-proxy stands on: rustls with webpki, and tokio. It does what `linkerd-rig proxy` does on Go's TLS
//! (../linkerd/proxy.go), by the same environment and with the same lines on standard output.
//!
//! Anchors are those of its environment, read once; one that cannot be parsed is skipped with a warning (linkerd2-proxy linkerd/meshtls, creds).
//! Every leaf that comes is held to them before it is used; peers are verified both ways, by the same anchors, and no session is resumed.

use std::env::var;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
    copy_bidirectional,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

const TOKEN: &str = "/var/run/secrets/tokens/linkerd-identity-token";
/// LINKERD2_PROXY_IDENTITY_MIN_REFRESH, and how much of a leaf's remaining life passes before it is renewed.
const MIN_REFRESH: Duration = Duration::from_secs(10);
const RENEW_AFTER: f64 = 0.7;
const DIAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);
/// A server goes on until its clients know that it leaves, and the application beside it does so for as long.
const LINGER: Duration = Duration::from_secs(6);

type Failure = Box<dyn Error + Send + Sync>;
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The leaf of this proxy, which both its server and its client present.
#[derive(Debug)]
struct Presented {
    name: String,
    leaf: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Presented {
    fn now(&self) -> Option<Arc<CertifiedKey>> {
        self.leaf.read().ok()?.clone()
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // It serves its leaf to nobody who asks for another name.
        if hello.server_name() == Some(self.name.as_str()) {
            self.now()
        } else {
            None
        }
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// webpki's verifier, which tells who signed what a server presented, where the anchors did not verify it.
#[derive(Debug)]
struct Telling(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Telling {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        at: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_server_cert(leaf, chain, name, ocsp, at);
        if let (Err(cause), Some(issuer)) = (&verified, chain.first()) {
            let (presents, error) = (fingerprint(issuer), cause.to_string());
            tell(
                json!({"at": now(), "unverified": name.to_str(), "presents": presents, "error": error}),
            );
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

struct Mesh {
    presented: Arc<Presented>,
    key: KeyPair,
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    last_use: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(failure) = run().await {
        eprintln!("linkerd-rustls-proxy: {failure}");
        std::process::exit(1);
    }
}

async fn run() -> Result<(), Failure> {
    let mesh = Arc::new(Mesh::new(
        &var("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")?,
        var("LINKERD2_PROXY_IDENTITY_LOCAL_NAME")?,
    )?);
    let mut leaving = signal(SignalKind::terminate())?;
    tokio::spawn(serve_admin(
        mesh.clone(),
        TcpListener::bind("0.0.0.0:4191").await?,
    ));
    tokio::spawn(renew(mesh.clone()));
    let inbound = var("RIG_INBOUND").unwrap_or_default();
    if !inbound.is_empty() {
        let listener = TcpListener::bind("0.0.0.0:4143").await?;
        let own = mesh.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let _ = near.set_nodelay(true);
                own.used();
                tokio::spawn(take(own.clone(), near, inbound.clone()));
            }
        });
    }
    for entry in var("RIG_OUTBOUND")
        .unwrap_or_default()
        .split(',')
        .filter(|entry| !entry.is_empty())
    {
        let parts: Vec<String> = entry.split('=').map(str::to_owned).collect();
        let [port, address, name] = parts
            .try_into()
            .map_err(|_| format!("RIG_OUTBOUND: {entry} is not port=address=name"))?;
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
        let own = mesh.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let _ = near.set_nodelay(true);
                own.used();
                tokio::spawn(bring(own.clone(), near, address.clone(), name.clone()));
            }
        });
    }
    leaving.recv().await;
    mesh.used();
    loop {
        let quiet = now().saturating_sub(mesh.last_use.load(Ordering::Relaxed));
        if quiet >= LINGER.as_millis() as u64 {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

fn tell(line: Value) {
    println!("{line}");
}

fn fingerprint(der: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, der)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Mesh {
    fn new(anchors: &str, name: String) -> Result<Mesh, Failure> {
        let mut roots = RootCertStore::empty();
        let mut held = Vec::new();
        for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
            let added = anchor.map_err(|cause| cause.to_string()).and_then(|der| {
                let print = fingerprint(&der);
                roots
                    .add(der)
                    .map(|()| print)
                    .map_err(|cause| cause.to_string())
            });
            match added {
                Ok(print) => held.push(print),
                Err(cause) => eprintln!("skipping a trust anchor: {cause}"),
            }
        }
        if held.is_empty() {
            return Err("invalid trust roots".into());
        }
        tell(json!({"at": now(), "roots": held}));
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let presented = Arc::new(Presented {
            name,
            leaf: RwLock::new(None),
        });
        let versions = [&rustls::version::TLS13];
        // Identity's own proxy takes clients without a certificate; others turn them away below.
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(presented.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build()?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Telling(verifier.clone())))
            .with_client_cert_resolver(presented.clone());
        client.resumption = Resumption::disabled();
        Ok(Mesh {
            presented,
            key: KeyPair::generate()?,
            provider,
            verifier,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            last_use: AtomicU64::new(0),
        })
    }

    fn used(&self) {
        self.last_use.store(now(), Ordering::Relaxed);
    }

    async fn dial(&self, address: &str, name: &str) -> Result<impl Stream + use<>, Failure> {
        let far = timeout(DIAL, TcpStream::connect(address)).await??;
        far.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned())?;
        Ok(timeout(PATIENCE, self.connector.connect(name, far)).await??)
    }

    async fn to_identity(&self) -> Result<Box<dyn Stream>, Failure> {
        let address = var("LINKERD2_PROXY_IDENTITY_SVC_ADDR")?;
        if address.starts_with("localhost:") {
            return Ok(Box::new(timeout(DIAL, TcpStream::connect(address)).await??));
        }
        Ok(Box::new(
            self.dial(&address, &var("LINKERD2_PROXY_IDENTITY_SVC_NAME")?)
                .await?,
        ))
    }

    /// Seconds since 1970 at which the new leaf ends.
    async fn certify(&self) -> Result<u64, Failure> {
        let name = self.presented.name.clone();
        let csr = CertificateParams::new(vec![name.clone()])?.serialize_request(&self.key)?;
        let token = tokio::fs::read_to_string(TOKEN).await?;
        let mut stream = self.to_identity().await?;
        let request = json!({"identity": name, "token": token, "csr": base64(csr.der())});
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        let answer: Value = serde_json::from_str(&line)?;
        if let Some(error) = answer["error"].as_str() {
            return Err(error.into());
        }
        let decoded = |value: &Value| {
            value
                .as_str()
                .map(unbase64)
                .ok_or("an answer without a certificate")
        };
        let leaf = CertificateDer::from(decoded(&answer["leaf"])?);
        let mut chain = vec![leaf];
        for each in answer["intermediates"].as_array().into_iter().flatten() {
            chain.push(CertificateDer::from(decoded(each)?));
        }
        let until = answer["validUntil"]
            .as_u64()
            .ok_or("an answer without an end")?;
        // Held to its own anchors before it is used.
        self.verifier.verify_server_cert(
            &chain[0],
            &chain[1..],
            &ServerName::try_from(name)?,
            &[],
            UnixTime::now(),
        )?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let print = fingerprint(&chain[0]);
        let certified = CertifiedKey::new(chain, self.provider.key_provider.load_private_key(key)?);
        *self.presented.leaf.write().map_err(|_| "poisoned")? = Some(Arc::new(certified));
        tell(json!({"at": now(), "leaf": print, "until": until * 1000}));
        Ok(until)
    }
}

async fn renew(mesh: Arc<Mesh>) {
    loop {
        let wait = match timeout(PATIENCE, mesh.certify())
            .await
            .map_err(Failure::from)
            .and_then(|result| result)
        {
            Ok(until) => Duration::from_millis((until * 1000).saturating_sub(now()))
                .mul_f64(RENEW_AFTER)
                .max(MIN_REFRESH),
            Err(failure) => {
                tell(json!({"at": now(), "certification": failure.to_string()}));
                if mesh.presented.now().is_none() {
                    Duration::from_millis(200)
                } else {
                    MIN_REFRESH
                }
            }
        };
        sleep(wait).await;
    }
}

fn refused(at: &str, peer: &str, failure: &str) {
    tell(json!({"at": now(), "refused": at, "peer": peer, "error": failure}));
}

/// From a peer to the application.
async fn take(mesh: Arc<Mesh>, near: TcpStream, application: String) {
    let peer = near
        .peer_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let mut secure = match timeout(PATIENCE, mesh.acceptor.accept(near)).await {
        Ok(Ok(secure)) => secure,
        Ok(Err(failure)) => return refused("inbound", &peer, &failure.to_string()),
        Err(late) => return refused("inbound", &peer, &late.to_string()),
    };
    let anonymous = secure.get_ref().1.peer_certificates().is_none();
    if anonymous && var("RIG_INBOUND_UNAUTHENTICATED").as_deref() != Ok("true") {
        return refused("inbound", &peer, "no client certificate");
    }
    if let Ok(Ok(mut far)) = timeout(DIAL, TcpStream::connect(application)).await {
        let _ = far.set_nodelay(true);
        let _ = timeout(PATIENCE, copy_bidirectional(&mut secure, &mut far)).await;
    }
}

/// From the application to a peer.
async fn bring(mesh: Arc<Mesh>, mut near: TcpStream, address: String, name: String) {
    match mesh.dial(&address, &name).await {
        Ok(mut far) => {
            let _ = timeout(PATIENCE, copy_bidirectional(&mut near, &mut far)).await;
        }
        Err(failure) => refused("outbound", &name, &failure.to_string()),
    }
}

/// TLS is told from HTTP by the first byte, as Linkerd's admin does.
async fn serve_admin(mesh: Arc<Mesh>, listener: TcpListener) {
    while let Ok((connection, _)) = listener.accept().await {
        let mesh = mesh.clone();
        tokio::spawn(async move {
            let _ = timeout(PATIENCE, admin(mesh, connection)).await;
        });
    }
}

async fn admin(mesh: Arc<Mesh>, mut connection: TcpStream) -> Result<(), Failure> {
    let mut first = [0u8; 1];
    if connection.peek(&mut first).await? == 1 && first[0] == 22 {
        let mut secure = mesh.acceptor.accept(connection).await?;
        let mut rest = Vec::new();
        secure.read_to_end(&mut rest).await?;
        return Ok(());
    }
    let mut reader = BufReader::new(&mut connection);
    let mut asked = String::new();
    reader.read_line(&mut asked).await?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).await? <= 2 {
            break;
        }
    }
    let ready = mesh.presented.now().is_some() || !asked.contains("/ready");
    let (status, body) = if ready {
        ("200 OK", "ready\n")
    } else {
        ("503 Service Unavailable", "not ready\n")
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    connection
        .write_all(format!("{head}{body}").as_bytes())
        .await?;
    connection.shutdown().await?;
    Ok(())
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(number >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place > chunk.len() { '=' } else { letter });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut number, mut bits) = (0u32, 0);
    for letter in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|each| *each == letter) else {
            continue;
        };
        number = (number << 6 | value as u32) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits) as u8);
        }
    }
    bytes
}
