"""The hot operations, each defined by a plain torch twin, with optional faster back ends behind it."""
