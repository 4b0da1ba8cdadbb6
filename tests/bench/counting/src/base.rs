//! A part of the layer `base` of the host, at the same place.

pub(crate) mod figures;
