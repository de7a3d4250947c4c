//! What flows through the stack: orders, one in twenty of them broken, and a few records that make a transform fail.

use anyhow::{Result, bail};
use pelton_integration::kafka::{Record, Writer};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

pub struct Feed(JoinHandle<Result<()>>);

impl Feed {
    /// Until `stop`.
    pub fn start(bootstrap: &str, rate: u64, stop: &Arc<AtomicBool>) -> Feed {
        let (bootstrap, stop) = (bootstrap.to_owned(), Arc::clone(stop));
        Feed(std::thread::spawn(move || {
            let writer = Writer::new(&bootstrap, "lz4")?;
            pelton_integration::paced(rate, &stop, |due| {
                writer.write("orders", &due.clone().map(order).collect::<Vec<_>>())?;
                writer.write("asks", &due.filter(|id| id % 20 == 0).map(ask).collect::<Vec<_>>())
            })
        }))
    }

    pub fn end(self) -> Result<()> {
        match self.0.join() {
            Ok(fed) => fed,
            Err(_) => bail!("the feed panicked"),
        }
    }
}

fn order(id: u64) -> Record {
    let customer = ["ada", "grace", "edsger", "barbara", "leslie"][(id % 5) as usize];
    let end = if id % 20 == 7 { "" } else { "}" };
    let card = format!(r#""card":{{"number":"4111-1111-1111-{:04}","cvc":"123"}}"#, id % 10_000);
    let value = format!(r#"{{"id":{id},"customer":"{customer}",{card},"amount":{}.50{end}"#, id % 90 + 10);
    Record { partition: -1, key: Some(customer.into()), value: Some(value.into_bytes()), ..Record::default() }
}

fn ask(id: u64) -> Record {
    let word = ["left", "both", "none", "trap", "nonsense"][(id / 20 % 5) as usize];
    let (key, value) = (Some(id.to_string().into_bytes()), Some(format!("{word} {id}").into_bytes()));
    Record { partition: -1, key, value, ..Record::default() }
}
