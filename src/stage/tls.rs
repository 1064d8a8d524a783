//! Certificates and keys → TLS of listeners and towards the next hop.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    version,
};

use super::config::{ClientTls, KeyPair, Pem, ServerTls, TlsVersion, TlsVersions};
use crate::io;

/// TLS of a listener; `protocols` are offered in this order.
pub fn server(tls: &ServerTls, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions(tls.versions))?;
    let builder = match &tls.client_ca {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let (certificates, key) = key_pair(&tls.own)?;
    let mut config = builder.with_single_cert(certificates, key)?;
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// TLS towards the next hop. Which protocols are offered is for whoever connects.
pub fn client(tls: &ClientTls) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions(tls.versions))?;
    let builder = if tls.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    } else {
        let roots = match &tls.ca {
            Some(ca) => roots(ca)?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        match verifier.build() {
            Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(verifier),
            // A system without certificates believes nobody; a next hop without TLS does not mind.
            Err(_) => builder.with_root_certificates(RootCertStore::empty()),
        }
    };
    Ok(match &tls.own {
        Some(own) => {
            let (certificates, key) = key_pair(own)?;
            builder.with_client_auth_cert(certificates, key)?
        }
        None => builder.with_no_client_auth(),
    })
}

fn versions(TlsVersions { lowest, highest }: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)];
    all.into_iter().filter(|(known, _)| (lowest..=highest).contains(known)).map(|(_, version)| version).collect()
}

/// What a PEM says, and what to call it.
fn text(pem: &Pem) -> Result<(Vec<u8>, String)> {
    match pem {
        Pem::File(path) => Ok((io::read(path)?, path.display().to_string())),
        Pem::Text(text) => Ok((text.0.clone().into_bytes(), "the PEM in the configuration".to_owned())),
    }
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>> {
    let (text, name) = text(pem)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().with_context(|| format!("{name}: no PEM"))?;
    ensure!(!certificates.is_empty(), "{name}: no certificate in it");
    Ok(certificates)
}

fn key_pair(pair: &KeyPair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let (key, name) = text(&pair.key)?;
    let key = PrivateKeyDer::from_pem_slice(&key).with_context(|| format!("{name}: no private key in PEM"))?;
    Ok((certificates(&pair.certificate)?, key))
}

fn roots(ca: &Pem) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Believes any certificate: `insecure_skip_verify`. Signatures of the handshake are looked at all the same.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
