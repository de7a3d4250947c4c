//! What `export!` expands to; not for transform authors.

use std::cell::RefCell;

use crate::batch;
use crate::settings::{Settings, Topics};
use crate::transform::Transform;
use crate::window::{Sink, Window};

#[allow(missing_debug_implementations, unreachable_pub, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        world: "drained-transform-packed",
        path: "../wit",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "pelton_sdk::rt::bindings",
    });
}

pub use bindings::export_component;
pub use bindings::{Guest, Topics as TopicNames};

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: crate::alloc::Classes = crate::alloc::Classes::over(std::alloc::System);

pub const ABI_VERSION: u32 = 1;

/// For `pelton inspect`: a custom section of the module, which is not part of its memory.
#[used]
#[allow(unsafe_code, reason = "the name of a section is taken on trust")]
#[unsafe(link_section = "pelton-sdk")]
static SDK: [u8; NAME.len()] = *NAME.as_bytes().first_chunk().unwrap();
const NAME: &str = concat!("rust ", env!("CARGO_PKG_VERSION"));

struct Host;

impl Sink for Host {
    fn window(cell: &[u8], buffer: &[u8]) -> u64 {
        bindings::pelton::transform::packed_sink::window(cell, buffer)
    }
    fn flush() {
        bindings::pelton::transform::packed_sink::flush();
    }
    fn commit(index: u32, outcome: &[u8]) {
        bindings::pelton::transform::packed_sink::commit(index, outcome);
    }
}

/// One instance of a transform, from `configure` on.
#[allow(missing_debug_implementations, reason = "not an author's business")]
pub struct Slot<T>(RefCell<Option<State<T>>>);

struct State<T> {
    transform: T,
    topics: Topics,
    window: Window,
}

impl<T: Transform> Slot<T> {
    pub const fn empty() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, settings: Vec<(String, String)>, topics: TopicNames) -> Result<(), String> {
        let topics = Topics { inputs: topics.inputs, outputs: topics.outputs };
        let transform = T::configure(&Settings::new(settings), &topics)?;
        *self.0.borrow_mut() = Some(State { transform, topics, window: Window::new::<Host>(true) });
        Ok(())
    }

    pub fn drain(&self) {
        if let Some(state) = &mut *self.0.borrow_mut() {
            state.transform.drain();
        }
    }

    pub fn process(&self, batch: &[u8]) -> Result<(), String> {
        match &mut *self.0.borrow_mut() {
            Some(State { transform, topics, window }) => {
                batch::run(batch, topics, window, |record, out| transform.process(record, out));
                Ok(())
            }
            None => Err("not configured".into()),
        }
    }
}
