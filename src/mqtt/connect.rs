//! Where a broker is and how to get in: the options both kinds of connection share.

use std::path::PathBuf;
use std::time::Duration;

use rumqttc::{BrokerSessionResumePolicy, IncomingPacketSizeLimit, MqttOptions};

use super::socket;

/// A broker.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How to log in, if at all.
    pub credentials: Option<Credentials>,
    /// TLS, for `mqtts://`.
    pub tls: Option<Tls>,
    /// The longest silence on the connection.
    pub keep_alive: Duration,
    /// Packets larger than this are refused by the broker (and counted there), not sent to us.
    pub max_packet_bytes: u32,
}

/// User name and password.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    /// Without the password: it must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Certificates for TLS, read when the connection is set up.
#[derive(Clone)]
pub struct Tls {
    #[cfg(feature = "tls")]
    config: std::sync::Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file that cannot be read or has nothing of use in it.
    #[error("{}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The machine's own certificate store is empty.
    #[error("no certificate authority found on this machine; name one with `ca_file`")]
    NoAuthorities,
    /// rustls does not take them.
    #[error("certificates cannot be used: {0}")]
    Rejected(String),
    /// A build without the `tls` feature.
    #[error("this build of headwater has no TLS; use mqtt:// or a build with the `tls` feature")]
    NotBuilt,
}

#[cfg(feature = "tls")]
impl Tls {
    /// Reads certificates: the authority's from `ca_file` (else the machine's own), and the client's if it has some.
    pub fn load(
        ca_file: Option<&std::path::Path>,
        client: Option<(&std::path::Path, &std::path::Path)>,
    ) -> Result<Self, TlsError> {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use std::path::Path;

        let file_error = |path: &Path, detail: String| TlsError::File {
            path: path.into(),
            detail,
        };
        let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| file_error(path, error.to_string()))?;
            if certificates.is_empty() {
                return Err(file_error(path, "no certificate in it".to_owned()));
            }
            Ok(certificates)
        };
        let mut roots = rustls::RootCertStore::empty();
        match ca_file {
            Some(path) => {
                for certificate in read(path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| file_error(path, error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Rejected(error.to_string()))?
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| file_error(key, error.to_string()))?;
                builder
                    .with_client_auth_cert(read(certificate)?, private)
                    .map_err(|error| TlsError::Rejected(error.to_string()))?
            }
        };
        Ok(Self {
            config: std::sync::Arc::new(config),
        })
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    /// Fails: this build has no TLS.
    pub fn load(
        _ca_file: Option<&std::path::Path>,
        _client: Option<(&std::path::Path, &std::path::Path)>,
    ) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }
}

/// An attempt to connect, name lookup and wait before it included, takes no longer.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(60);

/// TCP gives up writing to a peer that has gone without a word after about a quarter of an hour.
const LONGEST_WRITE: Duration = Duration::from_secs(20 * 60);

impl Endpoint {
    /// For how long the task of a connection may do nothing: a silent one moves at the latest when it is pinged, and again
    /// when the answer is missed.
    pub(super) fn longest_turn(&self) -> Duration {
        2 * self.keep_alive + LONGEST_ATTEMPT
    }

    /// The same of a connection that sends much: it may wait for room in the network's buffers.
    pub(super) fn longest_write(&self) -> Duration {
        self.longest_turn() + LONGEST_WRITE
    }

    /// The client's options for this broker, under `client_id`.
    pub(super) fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, (self.host.clone(), self.port));
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let config = rumqttc::TlsConfiguration::Rustls(tls.config.clone());
            options.set_transport(rumqttc::Transport::tls_with_config(config));
        }
        if let Some(credentials) = &self.credentials {
            options.set_credentials(credentials.username.clone(), credentials.password.clone());
        }
        options.set_keep_alive(self.keep_alive.as_secs().clamp(1, 65_535) as u16);
        options.set_connect_timeout(Duration::from_secs(10));
        options
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(self.max_packet_bytes));
        // The outbox and the ledger, not the client, remember what was in flight.
        options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        options.set_socket_connector(socket::connect);
        options
    }
}
