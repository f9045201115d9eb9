//! What the fuzz targets have in common. Each target is a door through which bytes come in; none may crash, hang or hold
//! much more memory than its input is long, whatever comes.
//!
//! Reading order: [`keys`] (the ring, and WeChat Pay's halves of it), [`wire`] (callbacks written anew, to be signed or
//! sealed, so that what lies behind authentication is reached), [`expect`] (what must hold of all that is accepted),
//! [`memory`] (bounds).

pub mod expect;
pub mod keys;
pub mod memory;
pub mod wire;
