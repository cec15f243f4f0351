//! Multi-Paxos in its log form.
