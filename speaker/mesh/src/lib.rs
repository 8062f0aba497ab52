//! Which speakers are alive: SWIM without I/O.
