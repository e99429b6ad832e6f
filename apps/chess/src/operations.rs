//! Metrics and health of a node, for operators.

use std::{error::Error, net::SocketAddr};

use adsum::{Health, operations::Operations};
use tokio::net::TcpListener;

use crate::Hall;

/// Answers operators on an address of their own, if there is one, until what it returns is dropped.
///
/// # Errors
///
/// The address can't be listened on, or the process records metrics already.
pub async fn serve_operators(
    hall: &Hall,
    address: Option<SocketAddr>,
    needs_engine: bool,
) -> Result<Option<Operations>, Box<dyn Error>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}. Choose another with METRICS_ADDR="))?;
    println!("metrics and health on {}", listener.local_addr()?);
    let health = Health::new(&hall.node.presence).needs_engine(needs_engine);
    Ok(Some(Operations::start(listener, health)?))
}
