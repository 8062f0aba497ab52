//! A cluster made of network namespaces on one machine.
