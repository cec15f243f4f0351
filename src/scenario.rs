//! Files of transactions.
