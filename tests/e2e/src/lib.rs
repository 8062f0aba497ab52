//! End-to-end tests: real packets, real routers, clients that must reach a pod.
