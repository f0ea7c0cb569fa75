"""The life of content against a model: hypothesis makes up the operations, plain Python says what must come of them."""
