//! Gives Services external addresses out of IPAddressPools.
