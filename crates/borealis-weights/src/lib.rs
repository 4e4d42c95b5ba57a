//! Open a checkpoint, refuse it if it lies, hand out tensors by canonical name.
