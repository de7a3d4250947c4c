//! The control plane: makes a [`Plan`](crate::dataplane::plan::Plan) from a configuration ([`prepare`], with its
//! [`topics`] and [`transforms`]), starts the workers and ends them ([`supervisor`]) as [`signals`] say. Makes the next
//! plan while they run ([`reload`]), on orders and when files change ([`triggers`]), judges trials ([`rollout`]) and
//! knows the stage of each generation ([`generations`]). [`exports`] is what goes to a collector. Nothing here touches
//! a record.

mod exports;
pub mod generations;
pub mod prepare;
pub mod reload;
mod rollout;
mod signals;
pub mod supervisor;
mod topics;
mod transforms;
pub mod triggers;

pub use prepare::{COMPILE_MODULE, check_environment, compiler};
pub use supervisor::{Ended, Genuine, Parts, run};
pub(crate) use topics::{TLS_ADVICE, diagnosis};
