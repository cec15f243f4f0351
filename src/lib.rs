//! Node assembly, command line, settings; also a library that starts local clusters for the load generator and tests.
