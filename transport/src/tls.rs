//! Mutual TLS of a connection, and the plain socket where there is none.

use std::io;
use std::sync::Arc;

use stratalog_proto::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Tls;

/// A connection, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for S {}

/// Makes sockets of TCP connections.
#[derive(Clone)]
pub(crate) struct Sockets(Option<Arc<Certified>>);

struct Certified {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    server_name: Option<String>,
}

impl Sockets {
    /// # Errors
    /// `InvalidConfig` for certificates or a key that cannot be used.
    pub(crate) fn new(tls: Option<&Tls>) -> Result<Self, Error> {
        tls.map(|tls| Certified::new(tls).map(Arc::new)).transpose().map(Self)
    }

    /// The side that connects; `host` is the name that the certificate has to carry, unless all nodes share one.
    pub(crate) async fn connect(&self, tcp: TcpStream, host: &str) -> io::Result<Box<dyn Socket>> {
        let Some(certified) = &self.0 else { return Ok(Box::new(tcp)) };
        let name = certified.server_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        Ok(Box::new(certified.connector.connect(name, tcp).await?))
    }

    /// The side that was connected to.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<Box<dyn Socket>> {
        match &self.0 {
            Some(certified) => Ok(Box::new(certified.acceptor.accept(tcp).await?)),
            None => Ok(Box::new(tcp)),
        }
    }
}

impl Certified {
    fn new(tls: &Tls) -> Result<Self, Error> {
        // The provider is given by name, so that nothing depends on which one the process has installed.
        let provider = Arc::new(ring::default_provider());
        let (roots, chain) = (roots(tls)?, certificates("certificate", &tls.certificate)?);
        let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(|error| unusable("key", error))?;
        let name = tls.server_name.clone();
        if name.clone().is_some_and(|name| ServerName::try_from(name).is_err()) {
            return Err(unusable("server name", "it is no host name"));
        }
        let client = client_config(provider.clone(), roots.clone(), chain.clone(), key.clone_key())?;
        let server = server_config(provider, roots, chain, key)?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            server_name: name,
        })
    }
}

fn client_config(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable("configuration", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("certificate or key", error))
}

fn server_config(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| unusable("authority", error))?;
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable("configuration", error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable("certificate or key", error))
}

fn roots(tls: &Tls) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", &tls.authority)? {
        roots.add(certificate).map_err(|error| unusable("authority", error))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| unusable(what, error))?;
    if read.is_empty() {
        return Err(unusable(what, "there is no certificate in the PEM"));
    }
    Ok(read)
}

fn unusable(what: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidConfig, format!("the TLS {what} for other nodes cannot be used: {why}"))
}
