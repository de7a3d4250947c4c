//! Owns the toll for each call of a host function: fuel, so that a guest cannot have the host work for it for free.
//! Functions whose work grows with their input `charge` more themselves; and after one that took long, whatever it was
//! charged (a string passed from one part of a component to another is converted by wasmtime's own code), the deadline
//! is checked. It also keeps the guest's [`crate::determinism`] at the record that the guest is processing, and counts
//! how often its code is entered.

use wasmtime::{CallHook, CallHookHandler, StoreContextMut};

use crate::drive;
use crate::host::Host;

/// One crossing, there and back: about 150 ns, in what a guest could compute meanwhile.
const FUEL_PER_CALL: u64 = 2_000;

/// Stands at the gate of a store.
pub(crate) struct Toll {
    /// Fuel between two yields of the store.
    pub(crate) interval: u64,
}

#[wasmtime_wasi::async_trait]
impl CallHookHandler<Host> for Toll {
    async fn handle_call_event(&self, mut store: StoreContextMut<'_, Host>, event: CallHook) -> wasmtime::Result<()> {
        match event {
            CallHook::CallingHost => {
                drive::enter_host();
                if let Some(current) = &store.data().current
                    && let Some(window) = &store.data().sink.window
                {
                    current.settled(window.read(&store).count);
                }
                drive::charge(FUEL_PER_CALL);
            }
            CallHook::ReturningFromHost => {
                drive::pay(self.interval).await;
                drive::leave_host().await;
            }
            CallHook::CallingWasm => store.data_mut().entries = store.data().entries.saturating_add(1),
            CallHook::ReturningFromWasm => {}
        }
        Ok(())
    }
}
