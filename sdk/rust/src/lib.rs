//! Write a Pelton transform: one function over a borrowed record.
//!
//! ```
//! use pelton_sdk::{Outcome, Outputs, Record, Reject};
//!
//! fn shout(record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
//!     let Some(value) = record.value() else { return Ok(Outcome::Keep) };
//!     let text = std::str::from_utf8(value)?;
//!     Ok(out.emit(record.output().value(text.to_uppercase().as_bytes())))
//! }
//! pelton_sdk::export!(fn shout);
//! ```
//!
//! That is a whole transform: a library crate of `crate-type = ["cdylib", "rlib"]`, built with
//! `cargo build --release --target wasm32-wasip2`. It is also ordinary Rust, tested natively in milliseconds:
//!
//! ```
//! # use pelton_sdk::{Outcome, Outputs, Record, Reject};
//! # fn shout(record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
//! #     let Some(value) = record.value() else { return Ok(Outcome::Keep) };
//! #     let text = std::str::from_utf8(value)?;
//! #     Ok(out.emit(record.output().value(text.to_uppercase().as_bytes())))
//! # }
//! use pelton_sdk::testing::{input, run_fn};
//!
//! let outcomes = run_fn(shout, &[input().value("hello"), input().tombstone(), input().value([0xff])]);
//! assert_eq!(outcomes[0].only_output().value_text(), Some("HELLO"));
//! assert!(outcomes[1].is_keep());
//! assert!(outcomes[2].reason().unwrap().contains("utf-8"));
//! ```
//!
//! A transform with settings or state implements [`Transform`]. What a transform keeps in memory is only a cache: an
//! instance is discarded after a panic, on a reload, and whenever partitions move.
//!
//! Outcomes of a record: [`Outcome::Keep`] passes it on unchanged (and costs least), [`Outcome::Drop`] drops it,
//! [`Outputs::emit`] writes any number of records, [`Reject`] hands it to the transform's error policy. A panic or an
//! exceeded limit rejects only the record in which it happens.
//!
//! # Allocator
//! A wasm module that links this crate gets its global allocator: free lists by size class, made for many small objects
//! that live as long as a record, under fuel. The default feature `allocator` enables it. With
//! `default-features = false` the module uses the system's, or its own `#[global_allocator]`. Native builds are not
//! affected.

#[cfg(any(test, all(target_family = "wasm", feature = "allocator")))]
mod alloc;
mod batch;
mod log;
mod output;
mod record;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod rt;
mod settings;
pub mod testing;
mod transform;
mod window;

pub use log::{Level, log};
pub use output::{IntoTopic, Output, Outputs};
pub use record::{Header, Headers, Record};
pub use settings::{Settings, Topic, Topics};
pub use transform::{Outcome, Reject, Transform};

/// Exports a transform of this crate from the module. Once per crate, at its top level:
/// `export!(MyTransform)` for a type that implements [`Transform`], `export!(fn my_function)` for a plain function.
#[macro_export]
macro_rules! export {
    (fn $function:path) => {
        // a native build checks it, and does not report it as unused
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            let _: fn(&$crate::Record<'_>, &mut $crate::Outputs<'_>) -> Result<$crate::Outcome, $crate::Reject> =
                $function;
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Stateless;
            impl $crate::Transform for Stateless {
                fn configure(_: &$crate::Settings, _: &$crate::Topics) -> Result<Self, String> {
                    Ok(Self)
                }
                #[inline]
                fn process(
                    &mut self,
                    record: &$crate::Record<'_>,
                    out: &mut $crate::Outputs<'_>,
                ) -> Result<$crate::Outcome, $crate::Reject> {
                    $function(record, out)
                }
            }
            $crate::export!(Stateless);
        };
    };
    ($transform:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            let _ = <$transform as $crate::Transform>::configure;
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static GUEST: $crate::rt::Slot<$transform> = const { $crate::rt::Slot::empty() };
            }
            struct Component;
            impl $crate::rt::Guest for Component {
                fn abi_version() -> u32 {
                    $crate::rt::ABI_VERSION
                }
                fn configure(
                    settings: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
                    topics: $crate::rt::TopicNames,
                ) -> Result<(), ::std::string::String> {
                    GUEST.with(|guest| guest.configure(settings, topics))
                }
                fn process_packed(batch: ::std::vec::Vec<u8>) -> Result<(), ::std::string::String> {
                    GUEST.with(|guest| guest.process(&batch))
                }
                fn drain() {
                    GUEST.with(|guest| guest.drain());
                }
            }
    $crate::rt::export_component!(Component with_types_in $crate::rt::bindings);
        };
    };
}
