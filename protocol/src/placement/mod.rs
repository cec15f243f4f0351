//! Which group owns what. The placement service itself (`g0`) comes with moving shards; until then the map is fixed
//! when the cluster is formatted, at epoch 1.

pub mod map;
