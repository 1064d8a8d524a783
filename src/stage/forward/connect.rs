//! Connections to the next hop, with TLS where its URL says so.

use anyhow::Result;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::stage::config::ClientTls;
use crate::stage::tls;

pub(super) type Connector = HttpsConnector<HttpConnector>;

/// `http2`: the next hop speaks gRPC; otherwise HTTP/1.1.
pub(super) fn connector(tls: &ClientTls, http2: bool) -> Result<Connector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    // A next hop that has vanished is not waited for until TCP gives up by itself, a quarter of an hour.
    http.set_tcp_user_timeout(Some(std::time::Duration::from_secs(20)));
    http.set_connect_timeout(Some(std::time::Duration::from_secs(5)));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls::client(tls)?).https_or_http();
    if let Some(name) = &tls.server_name {
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(ServerName::try_from(name.clone())?));
    }
    Ok(if http2 { builder.enable_http2().wrap_connector(http) } else { builder.enable_http1().wrap_connector(http) })
}
