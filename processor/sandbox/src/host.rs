//! Owns what a store carries for its guest: limiter, WASI, logs, and the host's half of the packed world. One of them
//! lives as long as its instance.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::determinism::CurrentRecord;
use crate::limits::Limiter;
use crate::logs::{Logs, Stdio};
use crate::packed::Sink;
use crate::record::Record;

/// The data of a store.
pub(crate) struct Host {
    pub(crate) limiter: Limiter,
    pub(crate) sink: Sink,
    pub(crate) logs: Arc<Logs>,
    pub(crate) stdio: Arc<Stdio>,
    /// Where what the guest sees of time and chance follows the record.
    pub(crate) current: Option<Arc<CurrentRecord>>,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    /// How often the guest's code was entered in the call under way.
    pub(crate) entries: u32,
}

impl Host {
    /// Before each call: what an error is judged by belongs to that call.
    pub(crate) fn begin_call(&mut self, records: &[Record<'_>]) {
        if let Some(current) = &self.current {
            current.begin(records);
        }
        self.entries = 0;
        self.limiter.forget();
        self.stdio.forget();
    }

    /// Whether the packed call under way came to the function itself: first the guest is asked for room for the batch.
    pub(crate) fn entered(&self) -> bool {
        self.entries > 1
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
