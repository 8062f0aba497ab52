//! What the peer should know and what it knows (Adj-RIB-Out, RFC 4271 §3.2).
