//! The control plane: makes a [`Plan`](crate::dataplane::plan::Plan) of a configuration ([`prepare`]), starts the workers
//! and ends them ([`supervisor`]). Nothing here touches a record.

pub mod prepare;
mod reload;
pub mod supervisor;

pub use prepare::{COMPILE_MODULE, check_environment, workshop};
pub use supervisor::{Ended, Genuine, Parts, run};
