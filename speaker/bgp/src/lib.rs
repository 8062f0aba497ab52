//! A BGP-4 session without I/O: FSM, capabilities, UPDATE encoding, Adj-RIB-Out.
