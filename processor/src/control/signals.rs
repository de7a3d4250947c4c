//! What an operator or an orchestrator tells the process by signals.

use crate::dataplane::worker::Order;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) struct Signals {
    pub stop: Stop,
    hangup: Signal,
}

/// Those that end the process.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// From now on signals are kept until somebody asks for them, and end nothing by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Signals {
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
            },
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// `None`: SIGHUP, a reload.
    pub async fn next(&mut self) -> Option<Order> {
        tokio::select! {
            wanted = self.stop.told() => Some(wanted),
            _ = self.hangup.recv() => None,
        }
    }
}

impl Stop {
    pub async fn told(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Drain,
            _ = self.interrupt.recv() => Order::Drain,
            _ = self.quit.recv() => Order::Abort,
        }
    }
}
