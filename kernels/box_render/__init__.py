"""The control picture of a layout of boxes, in closed form; `trace` is its definition."""
